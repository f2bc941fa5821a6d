/**
 * An operation on the memory of slots. A plan has a list of them, in order. The accounts have counted it already; the
 * executor follows before it runs the step. A layout of pages shares them by counting, and needs none of these.
 */
export type MemoryOp = CopyOp | ReleaseOp | SwapOp;

/** A run of positions [start, end) of one KV cache, or of one boundary's hidden states. */
export interface PositionRun {
  /** Index of a unit or of a boundary. */
  readonly of: number;
  readonly start: number;
  readonly end: number;
}

/** Copies positions from a slot to another one. */
export interface CopyOp {
  readonly op: 'copy';
  readonly from: number;
  readonly to: number;
  readonly units: readonly PositionRun[];
  readonly boundaries: readonly PositionRun[];
}

/** Returns the memory of a slot behind a position to the system. */
export interface ReleaseOp {
  readonly op: 'release';
  readonly slot: number;
  readonly from: number;
}

/** Exchanges two slots. */
export interface SwapOp {
  readonly op: 'swap';
  readonly a: number;
  readonly b: number;
  /** Positions of each slot, by unit. */
  readonly aPositions: readonly number[];
  readonly bPositions: readonly number[];
}
