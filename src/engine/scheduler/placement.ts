/**
 * Chooses the slots of sequences. Each stage of a batch runs the range of slots from its first to its last row, so rows
 * lie side by side, deep ones together. A sequence starts where it belongs, and moves where a gap costs more than that.
 *
 * Must not know: the cost model, which gives it prices.
 */
import { at } from '../../util/at.js';
import { commonLength, type PrefixMatch } from './kv/prefix.js';
import type { Slot } from './kv/units.js';
import type { SlotTable } from './kv/slot-table.js';
import type { Sequence } from './sequence.js';

/** Steps over which a place must pay off; a typical answer has more left. */
const HORIZON_STEPS = 32;
/** Bandwidth of copies between slots (2 cores). */
export const COPY_BYTES_PER_MS = 6e6;
/** Price of an evicted prefix: above the copy of a chat template, below the steps of a row in vain. */
const EVICTION_MS = 10;

/** A row of a batch. */
interface PlacedRow {
  /** Of its slot. */
  readonly index: number;
  /** Last trunk stage of its exit. */
  readonly stage: number;
}

/** The first positions of a slot, which a sequence takes. */
type Prefix = Pick<PrefixMatch, 'slot' | 'length'>;

export class Placement {
  readonly #table: SlotTable;
  readonly #rowMs: readonly number[];

  /** @param rowMs milliseconds of a row by trunk stage; empty where rows may lie anywhere */
  constructor(table: SlotTable, rowMs: readonly number[]) {
    this.#table = table;
    this.#rowMs = rowMs;
  }

  /** Gives a sequence the cheapest slot, of equal ones the least recently used. @throws RangeError if all are live */
  place(sequence: Sequence, prefix: Prefix | null, running: readonly Sequence[]): Slot {
    const rows = this.#rows(running);
    const length = prefix?.length ?? 0;
    const prices = this.#table.slots.flatMap((slot) => {
      if (slot.live) return [];
      const kept = keptOf(sequence, slot, prefix);
      const copyMs = this.#table.bytesOf(length - kept) / COPY_BYTES_PER_MS;
      const ms = this.#batchMs([...rows, this.#row(sequence, slot)]) + copyMs + evictionMs(slot, kept);
      return [{ slot, ms, lastUsed: slot.length === 0 ? 0 : slot.lastUsed }];
    });
    const [first, ...others] = prices;
    if (first === undefined) throw new RangeError('no slot is free');
    const { slot } = others.reduce(
      (best, each) => (each.ms < best.ms || (each.ms === best.ms && each.lastUsed < best.lastUsed) ? each : best),
      first,
    );
    this.#occupy(sequence, slot, prefix);
    return slot;
  }

  /** Moves one sequence into a gap of the batch, where the rows in vain cost more than the copy. */
  closeGap(running: readonly Sequence[]): void {
    if (this.#rowMs.length === 0) return;
    const rows = this.#rows(running);
    const places = rows.map(({ index }) => index);
    const gaps = this.#table.slots.slice(Math.min(...places), Math.max(...places)).filter(({ live }) => !live);
    if (gaps.length === 0) return;
    const present = this.#batchMs(rows);
    const ends = new Set(this.#rangesOf(rows).flat());
    let best: { readonly sequence: Sequence; readonly from: Slot; readonly to: Slot } | null = null;
    let most = 0;
    for (const [i, sequence] of running.entries()) {
      const { slot: from } = sequence;
      // A row between others makes no range of rows shorter.
      if (from === null || !ends.has(from.index)) continue;
      for (const to of gaps) {
        const saved = present - this.#batchMs(rows.with(i, this.#row(sequence, to)));
        if (saved <= most) continue;
        const gain = saved - this.#table.bytesOf(from.length) / COPY_BYTES_PER_MS - evictionMs(to, 0);
        if (gain <= most) continue;
        best = { sequence, from, to };
        most = gain;
      }
    }
    if (best === null) return;
    this.#occupy(best.sequence, best.to, { slot: best.from, length: best.from.length });
    this.#table.drop(best.from);
  }

  /** Makes a slot that of a sequence. Positions that the slot has of the prefix stay, the others are copied. */
  #occupy(sequence: Sequence, slot: Slot, prefix: Prefix | null): void {
    this.#table.truncate(slot, keptOf(sequence, slot, prefix));
    if (prefix !== null && slot !== prefix.slot) this.#table.copyPrefix(prefix.slot, slot, prefix.length);
    slot.tokens = sequence.tokens;
    slot.space = sequence.request.prefixSpace;
    slot.live = true;
    this.#table.touch(slot);
    sequence.slot = slot;
  }

  #rows(running: readonly Sequence[]): PlacedRow[] {
    return running.flatMap((each) => (each.slot === null ? [] : [this.#row(each, each.slot)]));
  }

  #row({ exit }: Sequence, { index }: Slot): PlacedRow {
    return { index, stage: at(this.#table.units.exits, exit).stage };
  }

  /** Milliseconds of the rows that the stages compute, needed or in vain, until their places have paid off. */
  #batchMs(rows: readonly PlacedRow[]): number {
    const rowsMs = this.#rangesOf(rows).map(([first, last], stage) => at(this.#rowMs, stage) * (last - first + 1));
    return rowsMs.reduce((sum, ms) => sum + ms, 0) * HORIZON_STEPS;
  }

  /** The first and the last slot of each stage that has rows. */
  #rangesOf(rows: readonly PlacedRow[]): (readonly [number, number])[] {
    const ranges: [number, number][] = [];
    for (const { index, stage } of rows)
      for (let i = Math.min(stage, this.#rowMs.length - 1); i >= 0; i -= 1) {
        const range = (ranges[i] ??= [index, index]);
        range[0] = Math.min(range[0], index);
        range[1] = Math.max(range[1], index);
      }
    return ranges;
  }
}

/** Positions of a prefix that a slot has already. */
function keptOf({ tokens, request }: Sequence, slot: Slot, prefix: Prefix | null): number {
  if (prefix === null || slot.space !== request.prefixSpace) return 0;
  return commonLength(tokens, slot.tokens, Math.min(slot.length, prefix.length));
}

/** Price of the stored prefix that a slot loses, where it loses more than it keeps. */
function evictionMs(slot: Slot, kept: number): number {
  return slot.length > 2 * kept ? EVICTION_MS : 0;
}
