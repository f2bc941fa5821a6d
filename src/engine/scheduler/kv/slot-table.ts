/**
 * All slots of the KV cache: which are live, which are stored prefixes, and what they hold. It counts their memory and
 * moves frontiers. The bytes themselves are the executor's, which follows `MemoryOp`.
 *
 * The CPU has slots of equal size (fixed-slots.ts), a GPU has pages (block-pool.ts).
 *
 * Must not know: requests, scheduling policy.
 */
import { type Units, Slot } from './units.js';

/** A live sequence, as far as its memory goes. */
export interface Live {
  /** Null for a sequence without a slot. */
  readonly slot: Slot | null;
  readonly tokens: readonly number[];
}

export abstract class SlotTable {
  readonly slots: readonly Slot[];
  /** Positions that slots share together: a shared prefix has a multiple of them. */
  abstract readonly granularity: number;
  /** Whether a batch runs a range of slots; otherwise its rows may lie anywhere. */
  abstract readonly isOrdered: boolean;
  #clock = 0;

  /** @param slots number of sequences with a cache at the same time */
  constructor(
    slots: number,
    readonly units: Units,
    /** Of all units: each position of a sequence counts with them, whatever its exit needs. */
    readonly bytesPerPosition: number,
  ) {
    this.slots = Array.from({ length: slots }, (_, index) => new Slot(index, units.stages.length));
  }

  /** Bytes of these slots together; what they share counts once. */
  abstract held(slots: readonly Slot[]): number;
  /**
   * Gives another slot the caches and hidden states of the first `length` positions, as far as slots share them. The
   * target may hold some of the same tokens; they stay.
   */
  abstract copyPrefix(from: Slot, to: Slot, length: number): void;
  /** Rolls a slot back to at most `length` positions; it may lose some more that others share. */
  abstract truncate(slot: Slot, length: number): void;
  /** Takes memory for the positions that a step will write. @throws RangeError where live sequences hold all of it */
  abstract reserve(slot: Slot, length: number): void;
  /** Returns memory that slots do not need to the system, until they have at most so many bytes of it. */
  abstract giveBack(most: number): void;

  /** The operations since the last call. */
  takeOps(): MemoryOp[] {
    return [];
  }

  /** Bytes of a sequence of so many positions. */
  bytesOf(positions: number): number {
    return Math.ceil(positions / this.granularity) * this.granularity * this.bytesPerPosition;
  }

  /** Bytes that live sequences need up to their next position, with their whole prompts. */
  demand(live: readonly Live[]): number {
    const more = live.map(({ slot, tokens }) => this.bytesOf(tokens.length + 1) - (slot ? this.held([slot]) : 0));
    const held = this.held(live.flatMap(({ slot }) => slot ?? []));
    return more.reduce((sum, bytes) => sum + Math.max(0, bytes), held);
  }

  /** Marks a slot as used now. */
  touch(slot: Slot): void {
    slot.lastUsed = ++this.#clock;
  }

  /** Bytes of live slots, or those that stored prefixes alone hold. */
  used(which: 'live' | 'cached'): number {
    const live = this.held(this.slots.filter((slot) => slot.live));
    return which === 'live' ? live : this.held(this.slots) - live;
  }

  /** Empties a slot. */
  drop(slot: Slot): void {
    this.truncate(slot, 0);
    slot.tokens = [];
    slot.space = undefined;
    slot.live = false;
  }

  /** Drops the least recently used stored prefix. @returns false where none is left */
  evict(except?: Slot): boolean {
    const stored = this.slots.filter((slot) => slot !== except && !slot.live && slot.length > 0);
    const [first, ...others] = stored;
    if (first === undefined) return false;
    this.drop(others.reduce((oldest, slot) => (slot.lastUsed < oldest.lastUsed ? slot : oldest), first));
    return true;
  }
}

/** An operation on the memory of slots. The table has counted it already; a step runs behind it. */
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
  /** Positions that stay. */
  readonly kept: number;
}
