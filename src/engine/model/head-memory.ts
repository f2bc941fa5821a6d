/** Memory of a paged model's head on the GPU. */
import type { InputAreas } from '../runtime/device.js';
import type { ModelSource } from './graphs.js';
import type { GpuTensors } from './hidden-store.js';
import { stateBytes } from './memory.js';

/** Most logits that one run lowers; a larger set takes several. */
export const MOST_PENALTIES = 4096;

/** The head's areas among those of a step. */
export interface HeadInputs {
  readonly areas: InputAreas;
  /** Index of the first one. */
  readonly first: number;
}

/** Bytes of the head's input areas: norms, and for each unit rows and places. */
export function headSizes(maxRows: number, units: number): number[] {
  return new Array<number>(1 + 2 * units).fill(maxRows * 8);
}

/** Reserves what the head's graphs write. */
export function allocate({ manifest }: ModelSource, { device }: GpuTensors, rows: number) {
  const { architecture, topK } = manifest;
  return {
    states: device.alloc(rows * stateBytes(manifest)),
    logits: device.alloc(rows * architecture.vocab * 4),
    ids: device.alloc(rows * 8),
    chosen: device.alloc(rows * 3 * topK * 4),
    places: device.alloc(MOST_PENALTIES * 16),
    amounts: device.alloc(MOST_PENALTIES * 4),
  };
}
