/**
 * The account of the slots' memory in a layout of the KV cache: slots of equal size on a CPU, pages on a GPU. It counts
 * and moves frontiers. The bytes themselves are the executor's, which follows the account's operations (`MemoryOp`).
 *
 * Must not know: requests, scheduling policy.
 */
import type { ExitUnits, Slot } from './units.js';

/** A live sequence that needs memory up to `length` positions. */
export interface Claim {
  /** Null for a sequence without a slot. */
  readonly slot: Slot | null;
  readonly exit: ExitUnits;
  readonly length: number;
}

export interface KvAccount {
  /** Positions that slots share together: a shared prefix has a multiple of them. */
  readonly granularity: number;
  /** Bytes of the first `length` positions of a slot. */
  bytes(slot: Slot, length: number): number;
  /** Bytes of a sequence of `length` positions at an exit. */
  bytesAt(exit: ExitUnits, length: number): number;
  /** Bytes of these slots together; what they share counts once. */
  held(slots: readonly Slot[]): number;
  /** Bytes that live sequences need together. */
  demand(claims: readonly Claim[]): number;
  /** Gives a slot the caches and hidden states of another one's first positions. The target keeps its own positions. */
  share(from: Slot, to: Slot, length: number): void;
  /** Rolls a slot back to at most `length` positions; it may lose some more that others share. */
  rewind(slot: Slot, length: number): void;
  /** Empties a slot. */
  release(slot: Slot): void;
  /** Returns memory that slots do not need to the system, until they have at most so many bytes of it. */
  giveBack(slots: readonly Slot[], most: number): void;
  /** Takes memory for the positions that a step will write. @throws RangeError where live sequences hold all of it */
  reserve(slot: Slot, length: number): void;
  /** The operations since the last call. */
  takeOps(): MemoryOp[];
  /** Whether a batch runs a range of slots; otherwise its rows may lie anywhere. */
  readonly isOrdered: boolean;
}

/**
 * An operation on the memory of slots. A plan has a list of them, in order. The accounts have counted it already; the
 * executor follows before it runs the step. A layout of pages shares them by counting, and needs none of these.
 */
export type MemoryOp = CopyOp | ReleaseOp;

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

/** Returns the memory of a slot to the system. */
export interface ReleaseOp {
  readonly op: 'release';
  readonly slot: number;
  /** Positions that stay, by unit. */
  readonly kept: readonly number[];
}
