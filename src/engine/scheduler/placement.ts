/**
 * Chooses the slots of sequences. Each stage of a batch runs the range of slots from its first to its last row, so rows
 * lie side by side, deep ones together. A sequence starts where it belongs, and moves where a gap costs more than that.
 *
 * Must not know: the cost model, which gives it prices.
 */
import { at } from '../../util/at.js';
import { commonLength, type Prefix } from './kv/prefix.js';
import type { Slot } from './kv/units.js';
import type { SlotTable } from './kv/slot-table.js';
import type { Sequence } from './sequence.js';

/** Steps over which a place must pay off; a typical answer has more left. */
const HORIZON_STEPS = 32;
/** Bandwidth of copies between slots (2 cores). */
export const COPY_BYTES_PER_MS = 6e6;
/** Price of an evicted prefix: above the copy of a chat template, below the steps of a row in vain. */
const EVICTION_MS = 10;

/** The first and the last slot of the rows of a stage. */
type Range = readonly [first: number, last: number];

export class Placement {
  /** @param rowMs milliseconds of a row by trunk stage; empty where rows may lie anywhere */
  constructor(
    private readonly table: SlotTable,
    private readonly rowMs: readonly number[],
  ) {}

  /** Gives a sequence the cheapest slot, of equal ones the least recently used. @throws RangeError if all are live */
  place(sequence: Sequence, prefix: Prefix | null, running: readonly Sequence[]): Slot {
    const [best] = this.#prices(sequence, prefix, this.table.free, running);
    if (best === undefined) throw new RangeError('no slot is free');
    this.#occupy(sequence, best.slot, prefix);
    return best.slot;
  }

  /** Moves one sequence into a gap of the batch, where the rows in vain cost more than the copy. */
  closeGap(running: readonly Sequence[]): void {
    if (this.rowMs.length === 0) return;
    const ranges = this.#rangesOf(running);
    const [first, last] = ranges[0] ?? [0, 0];
    const gaps = this.table.slots.slice(first, last).filter(({ live }) => !live);
    if (gaps.length === 0) return;
    const ends = new Set(ranges.flat());
    const moves = running.flatMap((sequence) => {
      const { slot: from } = sequence;
      // A row between others makes no range of rows shorter.
      if (from === null || !ends.has(from.index)) return [];
      const prefix = { slot: from, tokens: from.tokens, length: from.length };
      const others = running.filter((each) => each !== sequence);
      return this.#prices(sequence, prefix, gaps, others).map((price) => ({ ...price, sequence, prefix }));
    });
    const [best] = moves.sort((a, b) => a.ms - b.ms);
    if (best === undefined || best.ms >= this.#batchMs(ranges)) return;
    this.#occupy(best.sequence, best.slot, best.prefix);
    this.table.drop(best.prefix.slot);
  }

  /** The prices of a sequence in these slots, beside the others of a batch; the least first. */
  #prices(sequence: Sequence, prefix: Prefix | null, slots: readonly Slot[], others: readonly Sequence[]) {
    const ranges = this.#rangesOf(others);
    const deepest = this.#stageOf(sequence);
    const prices = slots.map((slot) => {
      const kept = keptOf(sequence, slot, prefix);
      const copyMs = this.table.bytesOf((prefix?.length ?? 0) - kept) / COPY_BYTES_PER_MS;
      // A stored prefix has a price where the slot loses more of it than it keeps.
      const evictionMs = slot.length > 2 * kept ? EVICTION_MS : 0;
      const wider = ranges.map((range, stage) => (stage <= deepest ? rangeOf([...range, slot.index]) : range));
      return { slot, ms: this.#batchMs(wider) + copyMs + evictionMs };
    });
    return prices.sort((a, b) => a.ms - b.ms);
  }

  /** Makes a slot that of a sequence. Positions that the slot has of the prefix stay, the others are copied. */
  #occupy(sequence: Sequence, slot: Slot, prefix: Prefix | null): void {
    this.table.truncate(slot, keptOf(sequence, slot, prefix));
    if (prefix !== null && slot !== prefix.slot) this.table.copyPrefix(prefix.slot, slot, prefix.length);
    slot.tokens = sequence.tokens;
    slot.space = sequence.request.prefixSpace;
    slot.live = true;
    this.table.touch(slot);
    sequence.slot = slot;
  }

  /** Milliseconds of the rows that the stages compute, needed or in vain, until their places have paid off. */
  #batchMs(ranges: readonly Range[]): number {
    const rows = ranges.map(([first, last]) => Math.max(0, last - first + 1));
    return this.rowMs.reduce((sum, ms, stage) => sum + ms * at(rows, stage), 0) * HORIZON_STEPS;
  }

  #rangesOf(rows: readonly Sequence[]): Range[] {
    return this.rowMs.map((_, stage) =>
      rangeOf(rows.flatMap((each) => (each.slot !== null && this.#stageOf(each) >= stage ? each.slot.index : []))),
    );
  }

  /** The last trunk stage of its exit. */
  #stageOf({ exit }: Sequence): number {
    return at(this.table.units.exits, exit).stage;
  }
}

function rangeOf(places: readonly number[]): Range {
  return [Math.min(...places), Math.max(...places)];
}

/** Positions of a prefix that a slot has already. */
function keptOf({ tokens, request }: Sequence, slot: Slot, prefix: Prefix | null): number {
  if (prefix === null || slot.space !== request.prefixSpace) return 0;
  return commonLength(tokens, slot.tokens, Math.min(slot.length, prefix.length));
}
