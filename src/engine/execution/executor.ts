/**
 * The model with its layout, slots and units: everything that a step runs on.
 *
 * Must not know: requests, scheduling.
 */
import type { CostTable } from '../../cost/table.js';
import type { Model } from '../../model/graphs.js';
import type { Head } from '../../model/head.js';
import type { StageKernel } from '../../model/manifest.js';
import { PagedModel } from '../../model/paged-model.js';
import type { StagedModel } from '../../model/staged-model.js';
import type { ExitIndex, KernelRun } from '../protocol.js';
import type { SlotTable } from '../slots/slot-table.js';
import type { Slot } from '../slots/slot.js';
import { kernelChoice, recordedChoice } from './kernels.js';
import type { Layout } from './layout.js';
import { PagesLayout } from './pages-layout.js';
import type { DecodeRow } from './run-decode.js';
import type { KernelChoice, PrefillResult } from './run-prefill.js';
import { SlotsLayout } from './slots-layout.js';
import { type ExitUnits, type Units, unitsOf } from './units.js';

export class Executor {
  readonly model: Model;
  readonly units: Units;
  readonly table: SlotTable;
  readonly head: Head;
  readonly #layout: Layout;
  #kernel: KernelChoice;
  readonly #runs: KernelRun[] = [];

  /** Until `useCosts`, every unit runs the preferred kernel. */
  constructor(model: StagedModel | PagedModel) {
    this.model = model;
    this.units = unitsOf(model);
    this.#layout = model instanceof PagedModel ? new PagesLayout(model) : new SlotsLayout(model);
    this.table = this.#layout.table;
    this.head = this.#layout.head;
    this.#kernel = this.#recorded(kernelChoice([], this.kernels.slice(0, 1), { units: [] }));
    this.#layout.reserve();
  }

  /** Kernels that are loaded for the stages, preferred first. */
  get kernels(): readonly StageKernel[] {
    const [first] = this.units.stages;
    return first === undefined ? [] : [...first.sessions.keys()];
  }

  /** See Layout. */
  get mostPrefill(): number {
    return this.#layout.mostPrefill;
  }

  /** Selects kernels by these costs from the next step on. */
  useCosts(table: CostTable): void {
    this.#kernel = this.#recorded(kernelChoice(this.#names(), this.kernels, table));
  }

  /** Returns the kernels that ran since the last call. */
  takeRuns(): KernelRun[] {
    return this.#runs.splice(0);
  }

  /** @throws RangeError for an index without an exit */
  exit(index: ExitIndex): ExitUnits {
    const exit = this.units.exits[index];
    if (!exit) throw new RangeError(`exit ${index} does not exist`);
    return exit;
  }

  /** See run-prefill.ts. */
  advance(slot: Slot, exit: ExitIndex, end: number): PrefillResult {
    return this.#layout.advance(slot, this.exit(exit), end, this.#kernel);
  }

  /** See Layout. */
  decode(rows: readonly DecodeRow[]): number[] {
    return this.#layout.decode(rows, this.#kernel);
  }

  /** Waits until the step's work is done. */
  settle(): void {
    this.#layout.settle();
  }

  /** See Layout. */
  runRows(unit: number, kernel: StageKernel, rows: number, context: number): void {
    this.#layout.runRows(unit, kernel, rows, context);
  }

  /** See Layout. */
  runChunk(unit: number, kernel: StageKernel, context: number, positions: number): void {
    this.#layout.runChunk(unit, kernel, context, positions);
  }

  runEmbed(rows: number): void {
    this.#layout.runEmbed(rows);
  }

  /** See Layout. */
  runHead(rows: number): void {
    this.#layout.runHead(rows);
  }

  /** Empties all slots, of which up to `touched` positions were written. */
  forget(touched: number): void {
    for (const slot of this.table.slots) {
      slot.touched = Math.max(slot.touched, touched);
      this.table.drop(slot);
    }
  }

  dispose(): void {
    this.#layout.dispose();
  }

  #names(): string[] {
    return this.units.stages.map(({ entry }) => entry.name);
  }

  #recorded(choice: KernelChoice): KernelChoice {
    return recordedChoice(choice, this.#names(), this.#runs);
  }
}
