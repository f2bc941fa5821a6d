/**
 * A head whose input is smoothed, as layer.ts smooths those of a layer: its weight's columns are multiplied by factors,
 * and whoever makes its input has to divide. So has the embedding, where it is the same tensor.
 *
 * Knows: arithmetic of the head's weight. Must not know: how factors are chosen, kernels, graphs.
 */
import type { SourceTensor } from '../source.js';
import { columnMaxima, scaledColumns } from '../weight.js';
import { smoothingFactors } from './factors.js';

export interface SmoothedHead {
  /** [vocab, hidden]. */
  readonly weight: SourceTensor;
  /** What the head's input, and a row of an embedding that shares the weight, are multiplied by; null: nothing. */
  readonly undo: Float32Array | null;
}

/** @param squares sums over tokens of the squares of the input's channels, or null where nobody measured them */
export function smoothedHead(weight: SourceTensor, squares: Float32Array | null): SmoothedHead {
  const factors = squares && smoothingFactors(squares, columnMaxima([weight]));
  return { weight: scaledColumns(weight, factors), undo: factors?.map((factor) => 1 / factor) ?? null };
}
