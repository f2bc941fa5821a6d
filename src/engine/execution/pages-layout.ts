/**
 * Runs a model whose KV cache has pages. A step's chunks, catch-ups and rows are collected, and run as one batch: each
 * unit reads its weights once. The batch of a unit may hold any parts of any sequences, in any order.
 */
import { type BatchPart, buckets } from '../../model/control.js';
import { isCaptured, type StageKernel } from '../../model/manifest.js';
import { MOST_PARTS } from '../../model/paged-limits.js';
import type { PagedModel, PagedRun } from '../../model/paged-model.js';
import type { PagedHead, WantedRow } from '../../model/paged-head.js';
import type { HiddenStore } from '../../model/hidden-store.js';
import { type Part, Work } from './paged-work.js';
import { PagePlaces } from '../slots/page-places.js';
import { SlotTable } from '../slots/slot-table.js';
import type { Slot } from '../slots/slot.js';
import type { Layout } from './layout.js';
import type { DecodeRow } from './run-decode.js';
import type { KernelChoice, PrefillResult } from './run-prefill.js';
import { type ExitUnits, stageAt, type Units, unitsOf } from './units.js';

/** A position whose logits are wanted, with the exit that computes them. */
interface Wanted {
  readonly slot: Slot;
  readonly exit: ExitUnits;
  readonly position: number;
}

export class PagesLayout implements Layout {
  readonly table: SlotTable;
  readonly head: PagedHead;
  readonly mostPrefill: number;
  readonly #model: PagedModel;
  readonly #units: Units;
  readonly #places: PagePlaces;
  /** Collected work, and that of the last run, whose results lie where they were written. */
  #collected: Work;
  #ran: Work;
  /** All units in the order in which they run. */
  readonly #order: readonly number[];
  /** Positions of the collected parts in a unit, at most. */
  #positions = 0;
  #kernel: KernelChoice | null = null;

  constructor(model: PagedModel) {
    this.#model = model;
    this.#units = unitsOf(model);
    this.head = model.head;
    this.mostPrefill = model.maxTokens - model.limits.maxRows;
    this.#collected = new Work(this.#units.stages.length);
    this.#ran = new Work(this.#units.stages.length);
    const { pages, page, slots } = model.limits;
    this.#places = new PagePlaces(
      { pages, page, pageBytes: page * model.bytesPerPosition },
      {
        flush: () => {
          this.#flush([]);
        },
        evict: (except) => {
          const oldest = this.table.leastRecentlyUsed(except);
          if (oldest !== null) this.table.drop(oldest);
          return oldest !== null;
        },
      },
    );
    this.table = new SlotTable(slots, this.#units, this.#places);
    const units = this.#units.stages.map((_, unit) => unit);
    this.#order = units.sort((a, b) => this.#depth(a) - this.#depth(b) || a - b);
  }

  advance(slot: Slot, exit: ExitUnits, end: number, kernel: KernelChoice): PrefillResult {
    const start = slot.least(exit.needed);
    if (end - start > this.#model.limits.maxChunk || end > slot.tokens.length)
      throw new RangeError(`positions ${start} to ${end} exceed a chunk or the tokens of the slot`);
    const prefilled = Math.max(0, end - slot.length);
    const starts = this.#collect(slot, exit, end, kernel);
    const toHead = (first: number, rows: number): void => {
      this.#flush(Array.from({ length: rows }, (_, i) => ({ slot, exit, position: first + i })));
    };
    const last = starts.at(-1);
    const output = last === undefined ? null : { start: last, end, toHead, read: () => null };
    return { prefilled, caughtUp: Math.max(0, end - start - prefilled), output };
  }

  decode(rows: readonly DecodeRow[], kernel: KernelChoice): number[] {
    // Beside a chunk of 128 positions each row would take the attention of 128 rows.
    if (this.#model.device.padsParts && rows.some(({ slot }) => !this.#collected.has(slot))) this.#flush([]);
    // All rows run in one batch, since the head reads the results of the last one.
    this.#makeRoom(rows.reduce((sum, { slot, exit }) => sum + slot.tokens.length - slot.least(exit.needed), 0));
    // The units of deeper stages then run the first rows of the same batch.
    for (const { slot, exit } of [...rows].sort((a, b) => b.exit.stage - a.exit.stage)) {
      if (slot.tokens.length === 0) throw new RangeError(`slot ${slot.index} has no token to decode`);
      this.#collect(slot, exit, slot.tokens.length, kernel);
    }
    this.#flush(rows.map(({ slot, exit }) => ({ slot, exit, position: slot.tokens.length - 1 })));
    const trunk = Array.from({ length: this.#units.trunk }, (_, stage) => stage);
    return trunk.map((stage) => rows.filter(({ exit }) => exit.stage >= stage).length).filter((count) => count > 0);
  }

  settle(): void {
    this.#flush([]);
    this.#model.wait();
  }

  runRows(unit: number, kernel: StageKernel, rows: number, context: number): void {
    const parts = Array.from({ length: rows }, () => ({ past: context, count: 1 }));
    this.#runAlone(unit, kernel, parts);
  }

  runChunk(unit: number, kernel: StageKernel, context: number, positions: number): void {
    this.#runAlone(unit, kernel, [{ past: context, count: positions }]);
  }

  runEmbed(rows: number): void {
    this.#model.run({ ids: new Array<number>(rows).fill(0), units: [], head: null });
    this.#model.wait();
  }

  runHead(rows: number): void {
    const unit = this.#units.trunk - 1;
    const store = this.#output(unit);
    const head = {
      rows: Array.from({ length: rows }, (_, i) => ({ unit, row: i % store.rows })),
      norms: new Array<number>(rows).fill(0),
    };
    this.#model.run({ ids: [], units: [], head });
    this.head.inverseTemperatures.fill(1, 0, rows);
    this.head.choose(0, rows);
  }

  /** Runs everything at its largest shape: most positions of most sequences, each at its end. */
  reserve(): void {
    const { maxRows, capacity } = this.#model.limits;
    const rows = Math.min(maxRows, MOST_PARTS);
    let left = this.#model.maxTokens - rows;
    const parts = Array.from({ length: rows }, () => {
      const count = Math.min(left + 1, capacity);
      left -= count - 1;
      return { past: capacity - count, count };
    });
    this.runEmbed(this.#model.maxTokens);
    const { stages } = this.#units;
    const all = stages.flatMap(({ sessions }, unit) => [...sessions.keys()].map((kernel) => ({ unit, kernel })));
    for (const { unit, kernel } of all) this.#runAlone(unit, kernel, parts);
    this.runHead(maxRows);
    // Graphs are captured last: memory that a first run keeps for good is not theirs.
    for (const { unit, kernel } of all)
      for (const count of isCaptured(kernel) ? buckets(rows) : []) this.runRows(unit, kernel, count, capacity - 1);
  }

  dispose(): void {
    this.#model.dispose();
  }

  /** Collects the positions up to `end` that the exit's units lack. @returns the first one of each unit, in order */
  #collect(slot: Slot, exit: ExitUnits, end: number, kernel: KernelChoice): number[] {
    this.#kernel = kernel;
    const count = Math.max(0, end - slot.least(exit.needed));
    this.#makeRoom(count);
    this.#places.reserve(slot, end);
    this.#positions += count;
    const lacking = exit.needed.filter((unit) => slot.frontier(unit) < end);
    const pages = this.#places.pagesOf(slot);
    return lacking.map((unit) => {
      const start = slot.frontier(unit);
      const part = this.#collected.part(unit, slot, start, pages);
      if (unit === 0) for (let i = start; i < end; i++) part.ids.push(slot.tokens[i] ?? NaN);
      part.count += end - start;
      slot.reach(unit, end);
      return start;
    });
  }

  /** Runs the collected parts where further positions do not fit beside them. */
  #makeRoom(positions: number): void {
    if (this.#positions + positions > this.#model.maxTokens) this.#flush([]);
  }

  /** Runs the collected parts, and leaves the logits of wanted positions in the head. */
  #flush(wanted: readonly Wanted[]): void {
    const work = this.#collected;
    const order = this.#order.filter((unit) => work.of(unit).length > 0);
    if (order.length === 0 && wanted.length === 0) return;
    if (order.length > 0) {
      this.#collected = this.#ran;
      this.#collected.clear();
      this.#ran = work;
      this.#positions = 0;
      work.place();
    }
    const units: PagedRun['units'][number][] = [];
    for (const unit of order) {
      const parts = work.of(unit);
      const like = units.find((other) => other.like === null && beginsWith(other.parts, parts))?.unit ?? null;
      units.push({ unit, kernel: this.#kernelOf(unit, parts), parts, like });
    }
    const head = { rows: wanted.map((each) => this.#stateRow(each)), norms: wanted.map(({ exit }) => exit.norm) };
    const ids = order[0] === 0 ? work.of(0).flatMap((part) => part.ids) : [];
    this.#model.run({ ids, units, head: wanted.length > 0 ? head : null });
  }

  /** Boundary that a unit writes: blocks run right behind the stage that they branch from. */
  #depth(unit: number): number {
    const { boundary } = stageAt(this.#units, unit).entry;
    return unit < this.#units.trunk ? boundary + 1 : boundary;
  }

  #kernelOf(unit: number, parts: readonly Part[]): StageKernel {
    let [positions, longest] = [0, 0];
    for (const { past, count } of parts) {
      positions += count;
      longest = Math.max(longest, past);
    }
    const isDecode = positions === parts.length;
    const kernel = this.#kernel?.(unit, isDecode ? 'decode' : 'prefill', positions, longest);
    if (kernel === undefined) throw new Error('collected work has no kernel');
    return kernel;
  }

  /** The store that a unit writes. */
  #output(unit: number): HiddenStore {
    const { trunk } = this.#units;
    const store = unit < trunk ? this.#model.boundaries[unit + 1] : this.#model.blocks[unit - trunk];
    if (store === undefined) throw new RangeError(`unit ${unit} does not exist`);
    return store;
  }

  /** Row of the state that an exit's head reads. */
  #stateRow({ slot, exit, position }: Wanted): WantedRow {
    const unit = exit.block ?? exit.stage;
    if (this.#output(unit).isPaged) return { unit, row: this.#places.rowOf(slot, position) };
    const part = this.#ran.find(unit, slot);
    if (part === undefined || position < part.past || position >= part.past + part.count)
      throw new RangeError(`position ${position} of slot ${slot.index} is not in the last run`);
    return { unit, row: part.first + position - part.past };
  }

  /** Runs one unit over sequences that share pages: only its time counts. */
  #runAlone(
    unit: number,
    kernel: StageKernel,
    parts: readonly { readonly past: number; readonly count: number }[],
  ): void {
    const { pages, page } = this.#model.limits;
    const table = ({ past, count }: { readonly past: number; readonly count: number }): number[] =>
      Array.from({ length: Math.ceil((past + count) / page) }, (_, i) => i % pages);
    const batch = parts.map((part) => ({ ...part, pages: table(part) }));
    this.#model.run({ ids: [], units: [{ unit, kernel, parts: batch, like: null }], head: null });
    this.#model.wait();
  }
}

/** Whether a batch begins with these parts. */
function beginsWith(batch: readonly BatchPart[], parts: readonly BatchPart[]): boolean {
  return (
    parts.length <= batch.length &&
    parts.every(({ past, count, pages }, i) => {
      const other = batch[i];
      return other?.pages === pages && other.past === past && other.count === count;
    })
  );
}
