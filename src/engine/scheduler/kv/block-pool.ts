/**
 * The block pool of a paged KV cache: each sequence has a block table, and sequences share full pages (vLLM: blocks) by
 * a reference count.
 *
 * A page holds the KV cache of all units and the kept hidden states of its positions. Units that lag behind write the
 * same values into a shared page, since its tokens are the same.
 */
import { at } from '../../../util/at.js';
import { SlotTable } from './slot-table.js';
import type { Slot, Units } from './units.js';

export interface BlockPoolSize {
  /** Number of pages. */
  readonly pages: number;
  /** Positions of a page. */
  readonly page: number;
}

export class BlockPool extends SlotTable {
  readonly isOrdered = false;
  readonly granularity: number;
  /** Pages with a reference count of 0; the last one is taken first. */
  readonly #freeBlocks: number[];
  /** References to each page. */
  readonly #refCounts: Int32Array;
  readonly #blockTables: readonly number[][];

  constructor(
    slots: number,
    units: Units,
    bytesPerPosition: number,
    private readonly pool: BlockPoolSize,
  ) {
    super(slots, units, bytesPerPosition);
    const { pages, page } = pool;
    this.granularity = page;
    this.#freeBlocks = Array.from({ length: pages }, (_, i) => pages - 1 - i);
    this.#refCounts = new Int32Array(pages);
    this.#blockTables = this.slots.map(() => []);
  }

  /** The pages of a slot, in the order of its positions. */
  blockTableOf({ index }: Slot): number[] {
    return at(this.#blockTables, index);
  }

  /** Row of a position in stores with a row for each position of each page. */
  rowOf(slot: Slot, position: number): number {
    const { page } = this.pool;
    const block = this.blockTableOf(slot)[Math.floor(position / page)];
    if (block === undefined) throw new RangeError(`position ${position} has no page`);
    return block * page + (position % page);
  }

  /** Gives a slot pages for `length` positions. @throws RangeError if all pages belong to other live sequences */
  reserve(slot: Slot, length: number): void {
    const table = this.blockTableOf(slot);
    while (table.length < this.#count(length)) {
      const page = this.#freeBlocks.pop();
      if (page === undefined) {
        if (!this.evict(slot)) throw new RangeError(`no page is free for ${length} positions`);
        continue;
      }
      this.#refCounts[page] = 1;
      table.push(page);
    }
  }

  held(slots: readonly Slot[]): number {
    return this.bytesOf(new Set(slots.flatMap((slot) => this.blockTableOf(slot))).size * this.granularity);
  }

  /** Shares full pages alone. The target's own full pages stay, with what each unit has of them. */
  copyPrefix(from: Slot, to: Slot, length: number): void {
    const { page } = this.pool;
    const kept = Math.floor(to.length / page);
    const end = Math.floor(Math.min(length, from.length) / page);
    if (end <= kept) return;
    this.#freeBehind(to, kept);
    const shared = this.blockTableOf(from).slice(kept, end);
    for (const each of shared) this.#refCounts[each] = (this.#refCounts[each] ?? 0) + 1;
    this.blockTableOf(to).push(...shared);
    for (let unit = 0; unit < to.frontiers.length; unit++) {
      // A unit that lacks positions of the kept pages can't use the pages behind them yet.
      if (to.frontier(unit) >= kept * page)
        to.reach(unit, Math.max(kept * page, Math.min(end * page, from.frontier(unit))));
    }
  }

  truncate(slot: Slot, length: number): void {
    const { page } = this.pool;
    const last = this.blockTableOf(slot)[Math.floor(length / page)];
    const isShared = last !== undefined && (this.#refCounts[last] ?? 0) > 1;
    // New positions must not overwrite those of sequences that share the page.
    const end = isShared ? length - (length % page) : length;
    slot.truncate(end);
    this.#freeBehind(slot, this.#count(end));
  }

  giveBack(): void {
    // The device committed all pages at the start.
  }

  /** Pages of so many positions. */
  #count(length: number): number {
    return Math.ceil(length / this.pool.page);
  }

  /** Leaves a slot its first pages; the others lose a reference. */
  #freeBehind(slot: Slot, count: number): void {
    for (const page of this.blockTableOf(slot).splice(count)) {
      const refCount = (this.#refCounts[page] ?? 0) - 1;
      this.#refCounts[page] = refCount;
      if (refCount === 0) this.#freeBlocks.push(page);
    }
  }
}
