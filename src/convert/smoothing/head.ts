/**
 * A head with a smoothed input; layer.ts does the same for layers. The columns of the head's weight are multiplied by
 * factors, so the head graph divides its input. An embedding with the same tensor divides its rows.
 */
import type { SourceTensor } from '../tensors.js';
import { columnMaxima, scaledColumns } from '../weight.js';
import { smoothingFactors } from './factors.js';

export interface SmoothedHead {
  /** [vocab, hidden]. */
  readonly weight: SourceTensor;
  /** Multiplier of the head's input, and of the rows of an embedding that shares the weight; null for none. */
  readonly undo: Float32Array | null;
}

/** @param squares sums over tokens of the squares of the input's channels; null if they were not measured */
export function smoothedHead(weight: SourceTensor, squares: Float32Array | null): SmoothedHead {
  const factors = squares && smoothingFactors(squares, columnMaxima([weight]));
  return { weight: scaledColumns(weight, factors), undo: factors?.map((factor) => 1 / factor) ?? null };
}
