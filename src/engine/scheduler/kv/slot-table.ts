/**
 * All slots of the KV cache: which are live, which are stored prefixes, and what they hold. It counts their memory and
 * moves frontiers. The bytes themselves are the executor's, which follows `MemoryOp`.
 *
 * The CPU has slots of equal size: each unit has a KV cache with a range for every slot, and each kept boundary a store
 * of hidden states. The system commits their memory on the first write, and it stays with its slot. A GPU has pages
 * (block-pool.ts).
 *
 * Must not know: requests, scheduling policy.
 */
import { type Units, Slot } from './units.js';

export class SlotTable {
  readonly slots: readonly Slot[];
  /** Whether a batch runs a range of slots; otherwise its rows may lie anywhere. */
  readonly isOrdered: boolean = true;
  #ops: MemoryOp[] = [];
  #clock = 0;

  /** @param slots number of sequences with a cache at the same time */
  constructor(
    slots: number,
    readonly units: Units,
    /** Of all units: each position of a sequence counts with them, whatever its exit needs. */
    readonly bytesPerPosition: number,
    /** Positions that slots share together: a shared prefix has a multiple of them. */
    readonly granularity = 1,
  ) {
    this.slots = Array.from({ length: slots }, (_, index) => new Slot(index, units.stages.length));
  }

  /** Slots without a live sequence: the empty ones, then stored prefixes from the least recently used one on. */
  get free(): readonly Slot[] {
    return this.slots.filter(({ live }) => !live).sort((a, b) => a.lastUsed - b.lastUsed);
  }

  /** Bytes of a sequence of so many positions. */
  bytesOf(positions: number): number {
    return Math.ceil(positions / this.granularity) * this.granularity * this.bytesPerPosition;
  }

  /** Bytes of these slots together; what they share counts once. */
  held(slots: readonly Slot[]): number {
    return slots.reduce((sum, { length }) => sum + this.bytesOf(length), 0);
  }

  /** Bytes that live sequences need up to their next position, with their whole prompts. */
  demand(live: readonly { readonly slot: Slot | null; readonly tokens: readonly number[] }[]): number {
    const more = live.map(({ slot, tokens }) => this.bytesOf(tokens.length + 1) - (slot ? this.held([slot]) : 0));
    const held = this.held(live.flatMap(({ slot }) => slot ?? []));
    return more.reduce((sum, bytes) => sum + Math.max(0, bytes), held);
  }

  /** Bytes of live slots, or those that stored prefixes alone hold. */
  used(which: 'live' | 'cached'): number {
    const live = this.held(this.slots.filter((slot) => slot.live));
    return which === 'live' ? live : this.held(this.slots) - live;
  }

  /** Takes memory for the positions that a step will write. @throws RangeError where live sequences hold all of it */
  reserve(slot: Slot, length: number): void {
    slot.written = Math.max(slot.written, length);
  }

  /**
   * Gives another slot the caches and hidden states of the first `length` positions, as far as slots share them. The
   * target may hold some of the same tokens; they stay.
   */
  copyPrefix(from: Slot, to: Slot, length: number): void {
    const { trunkStages, blockBoundaries } = this.units;
    const before = [...to.frontiers];
    for (const [unit, start] of before.entries())
      to.reach(unit, Math.max(start, Math.min(length, from.frontier(unit))));
    const units = before.flatMap((start, unit) => runOf(unit, start, to.frontier(unit)));
    const boundaries = before.slice(0, trunkStages).flatMap((start, stage) => {
      const of = stage + 1;
      // Only a block reads what the next stage has processed, or what lies behind the last stage.
      const read = of < trunkStages ? to.frontier(of) : Infinity;
      return runOf(of, blockBoundaries.has(of) ? start : Math.max(start, read), to.frontier(stage));
    });
    if (units.length > 0) this.#ops.push({ op: 'copy', from: from.index, to: to.index, units, boundaries });
  }

  /** Rolls a slot back to at most `length` positions; it may lose some more that others share. */
  truncate(slot: Slot, length: number): void {
    slot.truncate(length);
  }

  /** Marks a slot as used now. */
  touch(slot: Slot): void {
    slot.lastUsed = ++this.#clock;
  }

  /** Empties a slot. */
  drop(slot: Slot): void {
    this.truncate(slot, 0);
    slot.tokens = [];
    slot.space = undefined;
    slot.live = false;
    slot.lastUsed = 0;
  }

  /** Drops the least recently used stored prefix. @returns false where none is left */
  evict(except?: Slot): boolean {
    const oldest = this.free.find((slot) => slot !== except && slot.length > 0);
    if (oldest !== undefined) this.drop(oldest);
    return oldest !== undefined;
  }

  /**
   * Returns memory that slots do not need to the system, until they have at most so many bytes of it. Slots that wrote
   * most beyond what they hold come first.
   */
  giveBack(most: number): void {
    let written = this.slots.reduce((sum, slot) => sum + this.bytesOf(slot.written), 0);
    const spare = (slot: Slot): number => slot.written - slot.length;
    if (written <= most) return;
    for (const slot of this.slots.toSorted((a, b) => spare(b) - spare(a))) {
      if (written <= most || spare(slot) === 0) return;
      written -= this.bytesOf(spare(slot));
      this.#ops.push({ op: 'release', slot: slot.index, kept: slot.length });
      slot.written = slot.length;
    }
  }

  /** The operations since the last call. */
  takeOps(): MemoryOp[] {
    return this.#ops.splice(0);
  }
}

/** A run of positions [start, end) of one KV cache, or of one boundary's hidden states. */
interface PositionRun {
  /** Index of a unit or of a boundary. */
  readonly of: number;
  readonly start: number;
  readonly end: number;
}

function runOf(of: number, start: number, end: number): PositionRun[] {
  return end > start ? [{ of, start, end }] : [];
}

/** A copy of positions to another slot. */
interface CopyOp {
  readonly op: 'copy';
  readonly from: number;
  readonly to: number;
  readonly units: readonly PositionRun[];
  readonly boundaries: readonly PositionRun[];
}

/**
 * An operation on the memory of slots: a copy, or the return of a slot's memory behind its first `kept` positions to
 * the system. The table has counted it already; a step runs behind it.
 */
export type MemoryOp = CopyOp | { readonly op: 'release'; readonly slot: number; readonly kept: number };
