/**
 * Runs a model whose KV cache has pages. The chunks, catch-ups and rows of a step run as one batch: each unit reads its
 * weights once. The batch of a unit may hold any parts of any sequences, in any order.
 */
import type { BatchPart } from '../model/control.js';
import type { ModelUnit } from '../model/graphs.js';
import type { StageKernel } from '../model/manifest.js';
import type { PagedModel, PagedRun } from '../model/paged-model.js';
import type { PagedHead, WantedRow } from '../model/paged-head.js';
import type { States } from '../model/head.js';
import type { HiddenStore } from '../model/hidden-store.js';
import { at } from '../../util/at.js';
import { BlockPool } from '../scheduler/kv/block-pool.js';
import type { MemoryOp } from '../scheduler/kv/slot-table.js';
import { type Slot, type ExitUnits, type Units, unitsOf } from '../scheduler/kv/units.js';
import type { KernelChoice } from './kernels.js';
import type { Layout } from './layout.js';
import { PagedUnitRuns } from './paged-unit-runs.js';
import { type Chunk, type Frontier, frontierBehind, rowSpans, type Span, type StepBatch } from './step-batch.js';

/** A position whose logits are wanted, with the exit that computes them. */
interface Wanted {
  readonly slot: Slot;
  readonly exit: ExitUnits;
  readonly position: number;
}

/** Positions of a slot that a unit runs. */
interface Part extends BatchPart {
  readonly slot: Slot;
  count: number;
  /** Place of the first position among those of the unit, once placed. */
  first: number;
}

/** Positions that the units run together: for each unit one part of each slot. */
class PagedWork {
  /** Token ids of the positions of the first unit, in the order of its parts; filled by `place`. */
  readonly ids: number[] = [];
  /** By unit, in the order in which the spans came. */
  readonly #parts: readonly Map<Slot, Part>[];
  readonly #keys: ReadonlyMap<number, number>;

  /** @param keys numbers of keys graphs among the units, by the unit behind a prompt exit that has them */
  constructor(units: number, keys: ReadonlyMap<number, number>) {
    this.#parts = Array.from({ length: units }, () => new Map<Slot, Part>());
    this.#keys = keys;
  }

  of(unit: number): readonly Part[] {
    return [...(this.#parts[unit]?.values() ?? [])];
  }

  find(unit: number, slot: Slot): Part | undefined {
    return this.#parts[unit]?.get(slot);
  }

  /**
   * Adds the positions that the units of a span lack. Those of a slot with a part go on behind it.
   * @param pages the slot's block table
   * @param reads whether the states are read, as those of a row. Otherwise layers behind a prompt exit make their keys
   * and values alone.
   * @returns the first position of the last unit that lacks any; null where none does
   */
  add({ slot, exit, end }: Span, frontier: Frontier, pages: readonly number[], reads: boolean): number | null {
    let last: number | null = null;
    for (const unit of exit.needed) {
      const start = frontier(slot, unit);
      if (start >= end) continue;
      last = start;
      this.#extend(reads ? unit : (this.#keys.get(unit) ?? unit), slot, start, end, pages);
    }
    return last;
  }

  #extend(unit: number, slot: Slot, start: number, end: number, pages: readonly number[]): void {
    const part = this.find(unit, slot);
    if (part === undefined) this.#parts[unit]?.set(slot, { slot, past: start, count: end - start, pages, first: NaN });
    else part.count += end - start;
  }

  /** Gives each part its place in its unit's batch. @param draft tokens behind those of a slot */
  place(draft: readonly number[]): void {
    for (const parts of this.#parts) {
      let first = 0;
      for (const part of parts.values()) {
        part.first = first;
        first += part.count;
      }
    }
    for (const { slot, past, count } of this.of(0))
      for (let at = past; at < past + count; at++)
        this.ids.push(slot.tokens[at] ?? draft[at - slot.tokens.length] ?? NaN);
  }
}

export class PagesLayout implements Layout {
  readonly table: BlockPool;
  readonly head: PagedHead;
  readonly mostPrefill: number;
  readonly alone: PagedUnitRuns;
  readonly #model: PagedModel;
  readonly #units: Units<ModelUnit>;
  /** The work of the last run, whose results lie where they were written. */
  #ran: PagedWork;
  /** All units and keys graphs, by number, in the order in which they run. */
  readonly #order: readonly number[];
  /** Keys graphs by unit, and units by the number of their keys graphs. */
  readonly #keys: ReadonlyMap<number, number>;
  readonly #behind: ReadonlyMap<number, number>;

  constructor(model: PagedModel) {
    this.#model = model;
    this.#units = unitsOf(model);
    this.head = model.head;
    const keys = this.#units.stages.flatMap((_, unit) => {
      const number = model.keysOf(unit);
      return number === null ? [] : [[unit, number] as const];
    });
    this.#keys = new Map(keys);
    this.#behind = new Map(keys.map(([unit, number]) => [number, unit]));
    this.mostPrefill = model.maxTokens - model.limits.maxRows;
    this.#ran = this.#work();
    const { pages, page, slots } = model.limits;
    this.table = new BlockPool(slots, this.#units, model.bytesPerPosition, pages, page);
    const units = [...this.#units.stages.keys(), ...this.#behind.keys()];
    this.#order = units.sort((a, b) => this.#turn(a) - this.#turn(b) || a - b);
    this.alone = new PagedUnitRuns(model, this.#units, this.#output(this.#units.trunkStages - 1));
    this.alone.reserve();
  }

  run(batch: StepBatch, kernel: KernelChoice): void {
    const { chunks, draft } = batch;
    const frontier = frontierBehind(chunks);
    // The units of deeper stages then run the first rows of the same batch.
    const rows = rowSpans(batch).sort((a, b) => b.exit.stage - a.exit.stage);
    const work = this.#work();
    const starts = chunks.map((chunk) => this.#add(work, chunk, frontierBehind([]), chunk.read !== undefined));
    const isApart = rows.length > 0 && this.#runsApart(batch);
    const behind = isApart ? this.#work() : work;
    for (const span of rows) this.#add(behind, span, frontier, true);
    if (isApart || rows.length === 0) this.#run(work, [], [], kernel);
    for (const [i, chunk] of chunks.entries()) this.#read(chunk, starts[i] ?? null);
    if (rows.length > 0) this.#run(behind, draft?.tokens ?? [], wantedOf(batch), kernel);
  }

  apply(ops: readonly MemoryOp[]): void {
    if (ops.length > 0) throw new RangeError('pages are shared by counting');
  }

  wait(): void {
    this.#model.wait();
  }

  dispose(): void {
    this.#model.dispose();
  }

  /**
   * Whether the chunks run before the rows: their states are read before, or each row would take the attention of 128
   * rows beside a chunk of 128 positions. The chunk of a row itself runs with it.
   */
  #runsApart({ chunks, rows, draft }: StepBatch): boolean {
    if (chunks.some(({ read }) => read !== undefined)) return true;
    const isPadded = this.#model.device.padsParts && draft === null && chunks.length > 0;
    return isPadded && rows.some(({ slot }) => !chunks.some((chunk) => chunk.slot === slot));
  }

  /** Adds a span with pages for its positions. */
  #add(work: PagedWork, span: Span, frontier: Frontier, reads: boolean): number | null {
    const { slot, end } = span;
    this.table.reserve(slot, end);
    return work.add(span, frontier, slot.pages, reads);
  }

  #work(): PagedWork {
    return new PagedWork(this.#units.stages.length + this.#keys.size, this.#keys);
  }

  /** Runs work, and leaves the logits of wanted positions in the head. */
  #run(work: PagedWork, draft: readonly number[], wanted: readonly Wanted[], kernel: KernelChoice): void {
    work.place(draft);
    this.#ran = work;
    const units: PagedRun['units'][number][] = [];
    for (const unit of this.#order) {
      const parts = work.of(unit);
      if (parts.length === 0) continue;
      const like = units.find((other) => other.like === null && beginsWith(other.parts, parts))?.unit ?? null;
      units.push({ unit, kernel: kernelOf(kernel, this.#behind.get(unit) ?? unit, parts), parts, like });
    }
    const head = this.#headOf(wanted);
    if (units.length > 0 || head !== null) this.#model.run({ ids: work.ids, units, head });
  }

  /** Gives a chunk its states. */
  #read({ slot, exit, end, read }: Chunk, start: number | null): void {
    if (start === null || read === undefined) return;
    const toHead = (first: number, rows: number): void => {
      const wanted = Array.from({ length: rows }, (_, i) => ({ slot, exit, position: first + i }));
      this.#model.run({ ids: [], units: [], head: this.#headOf(wanted) });
    };
    read({ start, end, toHead, read: () => null } satisfies States);
  }

  #headOf(wanted: readonly Wanted[]): PagedRun['head'] {
    if (wanted.length === 0) return null;
    return { rows: wanted.map((each) => this.#stateRow(each)), norms: wanted.map(({ exit }) => exit.norm) };
  }

  /** Its turn in a run: behind the stage that writes a boundary, keys graphs that read it, then blocks. */
  #turn(unit: number): number {
    const behind = this.#behind.get(unit);
    const { boundary } = at(this.#units.stages, behind ?? unit).entry;
    if (unit < this.#units.trunkStages) return 3 * (boundary + 1);
    return 3 * boundary + (behind === undefined ? 2 : 1);
  }

  /** The store that a unit writes. */
  #output(unit: number): HiddenStore {
    const { trunkStages } = this.#units;
    const store = unit < trunkStages ? this.#model.boundaries[unit + 1] : this.#model.blocks[unit - trunkStages];
    if (store === undefined) throw new RangeError(`unit ${unit} does not exist`);
    return store;
  }

  /** Row of the state that an exit's head reads. */
  #stateRow({ slot, exit, position }: Wanted): WantedRow {
    const unit = exit.block ?? exit.stage;
    if (this.#output(unit).isPaged) return { unit, row: this.table.rowOf(slot, position) };
    const part = this.#ran.find(unit, slot);
    if (part === undefined || position < part.past || position >= part.past + part.count)
      throw new RangeError(`position ${position} of slot ${slot.index} is not in the last run`);
    return { unit, row: part.first + position - part.past };
  }
}

/** The last position of each row, and those of its draft, in the order of the head's rows. */
function wantedOf({ rows, draft }: StepBatch): Wanted[] {
  const ahead = draft?.tokens.length ?? 0;
  const wanted: Wanted[] = [];
  for (const { slot, exit } of rows)
    for (let i = 0; i <= ahead; i++) wanted.push({ slot, exit, position: slot.tokens.length - 1 + i });
  return wanted;
}

function kernelOf(kernel: KernelChoice, unit: number, parts: readonly Part[]): StageKernel {
  let positions = 0;
  let longest = 0;
  for (const { past, count } of parts) {
    positions += count;
    longest = Math.max(longest, past);
  }
  const isDecode = positions === parts.length;
  return kernel(unit, isDecode ? 'decode' : 'prefill', positions, longest);
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
