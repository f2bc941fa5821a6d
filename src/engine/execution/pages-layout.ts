/**
 * Runs a model whose KV cache has pages. A step's chunks, catch-ups and rows are collected, and run as one batch: each
 * unit reads its weights once. The batch of a unit may hold any parts of any sequences, in any order.
 */
import { type BatchPart, buckets } from '../../model/control.js';
import { isCaptured, type StageKernel } from '../../model/manifest.js';
import { type Region, regionAt, rowsFrom } from '../../model/card-store.js';
import { MOST_PARTS } from '../../model/paged-limits.js';
import type { PagedModel } from '../../model/paged-model.js';
import type { PagedHead } from '../../model/paged-head.js';
import { PagePlaces } from '../slots/page-places.js';
import { SlotTable } from '../slots/slot-table.js';
import type { Slot } from '../slots/slot.js';
import type { Layout } from './layout.js';
import type { DecodeRow } from './run-decode.js';
import type { KernelChoice, PrefillResult } from './run-prefill.js';
import { type ExitUnits, stageAt, type Units, unitsOf } from './units.js';

/** Positions [start, end) of a slot that a unit has to run. */
interface Part {
  readonly slot: Slot;
  readonly start: number;
  end: number;
  /** Tokens of the positions: a rejected draft leaves the slot before the part runs. */
  readonly ids: number[];
}

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
  /** Collected parts of each unit, and those of the last run, whose results lie where they were written. */
  #parts: Part[][];
  #ran: Part[][];
  /** Positions of the collected parts in a unit, at most. */
  #positions = 0;
  #kernel: KernelChoice | null = null;

  constructor(model: PagedModel) {
    this.#model = model;
    this.#units = unitsOf(model);
    this.head = model.head;
    this.mostPrefill = model.maxTokens - model.limits.maxRows;
    this.#parts = this.#none();
    this.#ran = this.#none();
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
    const collected = new Set(this.#parts.flat().map(({ slot }) => slot));
    if (this.#model.device.padsParts && rows.some(({ slot }) => !collected.has(slot))) this.#flush([]);
    // All rows run in one batch, since the head reads the results of the last one.
    this.#makeRoom(rows.reduce((sum, { slot, exit }) => sum + slot.tokens.length - slot.least(exit.needed), 0));
    for (const { slot, exit } of rows) {
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
    const states = regionAt(this.#model.boundaries, this.#units.trunk);
    const head = { rows: rowsFrom(states, rows), norms: new Array<number>(rows).fill(0) };
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
    return lacking.map((unit) => {
      const start = slot.frontier(unit);
      const parts = this.#parts[unit] ?? [];
      const before = parts.find((part) => part.slot === slot);
      const ids = slot.tokens.slice(start, end);
      if (before === undefined) parts.push({ slot, start, end, ids });
      else {
        before.ids.push(...ids);
        before.end = end;
      }
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
    const order = this.#units.stages
      .map((_, unit) => unit)
      .filter((unit) => (this.#parts[unit] ?? []).length > 0)
      .sort((a, b) => this.#depth(a) - this.#depth(b) || a - b);
    if (order.length === 0 && wanted.length === 0) return;
    const [first = []] = this.#parts;
    const run = {
      ids: first.flatMap(({ ids }) => ids),
      units: order.map((unit) => this.#batchOf(unit)),
    };
    if (order.length > 0) {
      this.#ran = this.#parts;
      this.#parts = this.#none();
      this.#positions = 0;
    }
    const head = {
      rows: wanted.map((each) => this.#stateRow(each)),
      norms: wanted.map(({ exit }) => exit.norm),
    };
    this.#model.run({ ...run, head: wanted.length > 0 ? head : null });
  }

  /** Boundary that a unit writes: blocks run right behind the stage that they branch from. */
  #depth(unit: number): number {
    const { boundary } = stageAt(this.#units, unit).entry;
    return unit < this.#units.trunk ? boundary + 1 : boundary;
  }

  #batchOf(unit: number) {
    const parts = this.#parts[unit] ?? [];
    const rows = parts.length;
    const isDecode = parts.every(({ start, end }) => end - start === 1);
    const longest = Math.max(...parts.map(({ start }) => start));
    const kernel = this.#kernel?.(unit, isDecode ? 'decode' : 'prefill', isDecode ? rows : positionsOf(parts), longest);
    if (kernel === undefined) throw new Error('collected work has no kernel');
    const batch = {
      parts: parts.map(({ slot, start, end }): BatchPart => ({
        past: start,
        count: end - start,
        pages: this.#places.pagesOf(slot),
      })),
      rowsIn: this.#rows(this.#input(unit), parts),
      rowsOut: this.#rows(this.#output(unit), parts),
    };
    return { unit, kernel, batch };
  }

  #input(unit: number): Region {
    return regionAt(this.#model.boundaries, stageAt(this.#units, unit).entry.boundary);
  }

  #output(unit: number): Region {
    const { trunk } = this.#units;
    return unit < trunk ? regionAt(this.#model.boundaries, unit + 1) : regionAt(this.#model.blocks, unit - trunk);
  }

  /** Rows of the store for all positions of a batch. */
  #rows(region: Region, parts: readonly Part[]): number[] {
    if (!region.isPaged) return Array.from({ length: positionsOf(parts) }, (_, i) => region.base + i);
    return parts.flatMap(({ slot, start, end }) => {
      const pages = this.#places.pagesOf(slot);
      return Array.from({ length: end - start }, (_, i) => this.#row(region, pages, start + i));
    });
  }

  #row({ base }: Region, pages: readonly number[], position: number): number {
    const { page } = this.#model.limits;
    const place = pages[Math.floor(position / page)];
    if (place === undefined) throw new RangeError(`position ${position} has no page`);
    return base + place * page + (position % page);
  }

  /** Row of the state that an exit's head reads. */
  #stateRow({ slot, exit, position }: Wanted): number {
    const unit = exit.block ?? exit.stage;
    const region = this.#output(unit);
    if (region.isPaged) return this.#row(region, this.#places.pagesOf(slot), position);
    let offset = 0;
    for (const part of this.#ran[unit] ?? []) {
      if (part.slot === slot && position >= part.start && position < part.end)
        return region.base + offset + position - part.start;
      offset += part.end - part.start;
    }
    throw new RangeError(`position ${position} of slot ${slot.index} is not in the last run`);
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
    const count = parts.reduce((sum, part) => sum + part.count, 0);
    const batch = {
      parts: parts.map((part) => ({ ...part, pages: table(part) })),
      rowsIn: rowsFrom(this.#input(unit), count),
      rowsOut: rowsFrom(this.#output(unit), count),
    };
    this.#model.run({ ids: [], units: [{ unit, kernel, batch }], head: null });
    this.#model.wait();
  }

  #none(): Part[][] {
    return this.#units.stages.map(() => []);
  }
}

/** Positions of all parts together. */
function positionsOf(parts: readonly Part[]): number {
  return parts.reduce((sum, { start, end }) => sum + end - start, 0);
}
