/**
 * The block pool of a paged KV cache: each slot has a block table, and slots share full pages (vLLM: blocks). A shared
 * page has the same place in all block tables, so these say how many slots have it.
 *
 * A page holds the KV cache of all units and the kept hidden states of its positions. Units that lag behind write the
 * same values into a shared page, since its tokens are the same.
 */
import { SlotTable } from './slot-table.js';
import type { Slot, Units } from './units.js';

export class BlockPool extends SlotTable {
  override readonly isOrdered = false;
  /** Pages of no slot. */
  readonly #free: number[];

  /** @param page positions of a page */
  constructor(slots: number, units: Units, bytesPerPosition: number, pages: number, page: number) {
    super(slots, units, bytesPerPosition, page);
    this.#free = Array.from({ length: pages }, (_, i) => pages - 1 - i);
  }

  /** Row of a position in stores with a row for each position of each page. */
  rowOf({ pages }: Slot, position: number): number {
    const page = pages[Math.floor(position / this.granularity)];
    if (page === undefined) throw new RangeError(`position ${position} has no page`);
    return page * this.granularity + (position % this.granularity);
  }

  override reserve(slot: Slot, length: number): void {
    while (slot.pages.length * this.granularity < length) {
      const page = this.#free.pop();
      if (page !== undefined) slot.pages.push(page);
      else if (!this.evict(slot)) throw new RangeError(`no page is free for ${length} positions`);
    }
  }

  override held(slots: readonly Slot[]): number {
    return this.bytesOf(new Set(slots.flatMap(({ pages }) => pages)).size * this.granularity);
  }

  /** Shares full pages alone. The target's own full pages stay, with what each unit has of them. */
  override copyPrefix(from: Slot, to: Slot, length: number): void {
    const page = this.granularity;
    const kept = Math.floor(to.length / page);
    const end = Math.floor(Math.min(length, from.length) / page);
    if (end <= kept) return;
    this.#freeBehind(to, kept);
    to.pages.push(...from.pages.slice(kept, end));
    for (const [unit, frontier] of to.frontiers.entries()) {
      // A unit that lacks positions of the kept pages can't use the pages behind them yet.
      if (frontier >= kept * page) to.reach(unit, Math.max(kept * page, Math.min(end * page, from.frontier(unit))));
    }
  }

  override truncate(slot: Slot, length: number): void {
    const first = Math.floor(length / this.granularity);
    const last = slot.pages[first];
    const isShared = last !== undefined && this.slots.some((each) => each !== slot && each.pages[first] === last);
    // New positions must not overwrite those of sequences that share the page.
    const end = isShared ? first * this.granularity : length;
    super.truncate(slot, end);
    this.#freeBehind(slot, Math.ceil(end / this.granularity));
  }

  override giveBack(): void {
    // The device committed all pages at the start.
  }

  /** Leaves a slot its first pages. */
  #freeBehind(slot: Slot, count: number): void {
    const behind = slot.pages.splice(count);
    this.#free.push(...behind.filter((page, i) => !this.slots.some(({ pages }) => pages[count + i] === page)));
  }
}
