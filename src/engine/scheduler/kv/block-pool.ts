/**
 * The block pool of a paged KV cache: each sequence has a block table, and sequences share full pages (vLLM: blocks) by
 * a reference count.
 *
 * A page holds the KV cache of all units and the kept hidden states of its positions. Units that lag behind write the
 * same values into a shared page, since its tokens are the same.
 */
import type { ExitUnits, Slot } from './units.js';
import type { Claim, KvAccount, MemoryOp } from './kv-account.js';

export interface BlockPoolSize {
  /** Number of pages. */
  readonly pages: number;
  /** Positions of a page. */
  readonly page: number;
  /** Bytes of a page in all KV caches and hidden states. */
  readonly pageBytes: number;
}

export class BlockPool implements KvAccount {
  readonly isOrdered = false;
  readonly #pool: BlockPoolSize;
  readonly #evict: (except: Slot) => boolean;
  /** Pages with a reference count of 0; the last one is taken first. */
  readonly #freeBlocks: number[];
  /** References to each page. */
  readonly #refCounts: Int32Array;
  readonly #blockTables = new Map<Slot, number[]>();
  /** The last round of counting that met each page. */
  readonly #marks: Float64Array;
  #round = 0;

  /** @param evict drops a stored prefix other than a slot's own; false where none is left */
  constructor(pool: BlockPoolSize, evict: (except: Slot) => boolean) {
    this.#pool = pool;
    this.#evict = evict;
    this.#freeBlocks = Array.from({ length: pool.pages }, (_, i) => pool.pages - 1 - i);
    this.#refCounts = new Int32Array(pool.pages);
    this.#marks = new Float64Array(pool.pages);
  }

  get granularity(): number {
    return this.#pool.page;
  }

  /** The pages of a slot, in the order of its positions. */
  blockTableOf(slot: Slot): readonly number[] {
    return this.#blockTable(slot);
  }

  /** Row of a position in stores with a row for each position of each page. */
  rowOf(slot: Slot, position: number): number {
    const { page } = this.#pool;
    const block = this.#blockTable(slot)[Math.floor(position / page)];
    if (block === undefined) throw new RangeError(`position ${position} has no page`);
    return block * page + (position % page);
  }

  /** Gives a slot pages for `length` positions. @throws RangeError if all pages belong to other live sequences */
  reserve(slot: Slot, length: number): void {
    const table = this.#blockTable(slot);
    while (table.length < this.#count(length)) {
      const page = this.#freeBlocks.pop();
      if (page === undefined) {
        if (!this.#evict(slot)) throw new RangeError(`no page is free for ${length} positions`);
        continue;
      }
      this.#refCounts[page] = 1;
      table.push(page);
    }
  }

  bytes(slot: Slot, length: number): number {
    return Math.min(this.#blockTable(slot).length, this.#count(length)) * this.#pool.pageBytes;
  }

  bytesAt(_: ExitUnits, length: number): number {
    return this.#count(length) * this.#pool.pageBytes;
  }

  held(slots: readonly Slot[]): number {
    this.#round++;
    let pages = 0;
    for (const slot of slots) pages += this.#mark(slot);
    return pages * this.#pool.pageBytes;
  }

  demand(claims: readonly Claim[]): number {
    this.#round++;
    let pages = 0;
    for (const { slot, length } of claims) {
      pages += Math.max(0, this.#count(length) - (slot ? this.#blockTable(slot).length : 0));
      if (slot !== null) pages += this.#mark(slot);
    }
    return pages * this.#pool.pageBytes;
  }

  /** Shares full pages alone. The target's own full pages stay, with what each unit has of them. */
  share(from: Slot, to: Slot, length: number): void {
    const { page } = this.#pool;
    const kept = Math.floor(to.length / page);
    const end = Math.floor(Math.min(length, from.length) / page);
    if (end <= kept) return;
    this.#freeBehind(to, kept);
    const shared = this.#blockTable(from).slice(kept, end);
    for (const each of shared) this.#refCounts[each] = (this.#refCounts[each] ?? 0) + 1;
    this.#blockTable(to).push(...shared);
    for (let unit = 0; unit < to.frontiers.length; unit++) {
      // A unit that lacks positions of the kept pages can't use the pages behind them yet.
      if (to.frontier(unit) >= kept * page)
        to.reach(unit, Math.max(kept * page, Math.min(end * page, from.frontier(unit))));
    }
  }

  rewind(slot: Slot, length: number): void {
    const { page } = this.#pool;
    if (length >= slot.length) return;
    const last = this.#blockTable(slot)[Math.floor(length / page)];
    const isShared = last !== undefined && (this.#refCounts[last] ?? 0) > 1;
    // New positions must not overwrite those of sequences that share the page.
    const end = isShared ? length - (length % page) : length;
    slot.truncate(end);
    this.#freeBehind(slot, this.#count(end));
  }

  release(slot: Slot): void {
    this.#freeBehind(slot, 0);
    slot.frontiers.fill(0);
  }

  giveBack(): void {
    // The device committed all pages at the start.
  }

  takeOps(): MemoryOp[] {
    return [];
  }

  /** Marks a slot's pages in this round. @returns those that had no mark */
  #mark(slot: Slot): number {
    let fresh = 0;
    for (const page of this.#blockTable(slot)) {
      if (this.#marks[page] !== this.#round) fresh++;
      this.#marks[page] = this.#round;
    }
    return fresh;
  }

  #blockTable(slot: Slot): number[] {
    let table = this.#blockTables.get(slot);
    if (!table) this.#blockTables.set(slot, (table = []));
    return table;
  }

  /** Pages of so many positions. */
  #count(length: number): number {
    return Math.ceil(length / this.#pool.page);
  }

  /** Leaves a slot its first pages; the others lose a reference. */
  #freeBehind(slot: Slot, count: number): void {
    for (const page of this.#blockTable(slot).splice(count)) {
      const refCount = (this.#refCounts[page] ?? 0) - 1;
      this.#refCounts[page] = refCount;
      if (refCount === 0) this.#freeBlocks.push(page);
    }
  }
}
