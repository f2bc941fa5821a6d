/** Parts of the batches that a layout with pages collects. */
import type { Slot } from '../slots/slot.js';

/** Positions [start, end) of a slot that a unit has to run. */
export interface Part {
  readonly slot: Slot;
  readonly start: number;
  end: number;
  /** Tokens of the positions: a rejected draft leaves the slot before the part runs. */
  readonly ids: number[];
}

/** Positions that a unit has yet to run for a slot. */
export interface Lacking {
  readonly unit: number;
  readonly slot: Slot;
  readonly start: number;
  readonly count: number;
}

/** Positions of all parts together. */
export function positionsOf(parts: readonly Part[]): number {
  return parts.reduce((sum, { start, end }) => sum + end - start, 0);
}
