/**
 * The model with its runners, slots and units: everything that a step runs on.
 *
 * Must not know: requests, scheduling.
 */
import { PrefillRunner } from '../../model/prefill-runner.js';
import { DecodeRunner } from '../../model/decode-runner.js';
import { HeadRunner } from '../../model/head-runner.js';
import type { StageKernel } from '../../model/manifest.js';
import type { Stage, StagedModel } from '../../model/staged-model.js';
import type { CostTable } from '../../cost/table.js';
import { runPrefill, type KernelChoice, type PrefillContext, type PrefillResult } from './run-prefill.js';
import { runDecode, type DecodeContext, type DecodeRow } from './run-decode.js';
import { kernelChoice, recordedChoice } from './kernels.js';
import type { ExitIndex, KernelRun } from '../protocol.js';
import type { Slot } from '../slots/slot.js';
import { SlotTable } from '../slots/slot-table.js';
import { type ExitUnits, type Units, unitsOf } from './units.js';

export class Executor {
  readonly units: Units;
  readonly table: SlotTable;
  readonly head: HeadRunner;
  readonly #prefill: PrefillContext;
  readonly #decode: DecodeContext;
  #kernel: KernelChoice;
  readonly #runs: KernelRun[] = [];

  /** Until `useCosts`, every unit runs the preferred kernel. */
  constructor(readonly model: StagedModel) {
    const units = unitsOf(model);
    this.units = units;
    this.table = new SlotTable(model, units);
    this.head = new HeadRunner(model);
    this.#kernel = this.#recorded(kernelChoice([], this.kernels.slice(0, 1), { units: [] }));
    const kernel: KernelChoice = (...run) => this.#kernel(...run);
    this.#prefill = { model, units, kernel, runner: new PrefillRunner(model) };
    this.#decode = { model, units, kernel, runner: new DecodeRunner(model), table: this.table, head: this.head };
  }

  /** Kernels that are loaded for the stages, preferred first. */
  get kernels(): readonly StageKernel[] {
    return [...this.#stage(0).sessions.keys()];
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
    return runPrefill(this.#prefill, slot, this.exit(exit), end);
  }

  /** See run-decode.ts. */
  decode(rows: readonly DecodeRow[]): number[] {
    return runDecode(this.#decode, rows);
  }

  /** Runs one unit over slots [0, rows) as if each held `context` positions. */
  runRows(unit: number, kernel: StageKernel, rows: number, context: number): void {
    const { runner } = this.#decode;
    runner.pasts.fill(context, 0, rows);
    if (unit < this.units.trunk) runner.stage(unit, kernel, rows, context);
    else runner.block(this.#stage(unit), kernel, 0, rows, context);
  }

  /** Runs one unit over a chunk of slot 0 as if it held `context` positions. */
  runChunk(unit: number, kernel: StageKernel, context: number, positions: number): void {
    const { runner } = this.#prefill;
    runner.stage(this.#stage(unit), kernel, 0, context, positions, runner.scratch(0), runner.scratch(1));
  }

  runEmbed(rows: number): void {
    this.#decode.runner.embed(rows);
  }

  /** Computes logits, and selects the values that sampling reads. */
  runHead(rows: number): void {
    this.head.inverseTemperatures.fill(1, 0, rows);
    this.head.logits(rows);
    this.head.select(0, rows);
  }

  /** Empties all slots, of which up to `touched` positions were written. */
  forget(touched: number): void {
    for (const slot of this.table.slots) {
      slot.touched = Math.max(slot.touched, touched);
      this.table.drop(slot);
    }
  }

  dispose(): void {
    this.head.dispose();
    this.#decode.runner.dispose();
    this.model.dispose();
  }

  #names(): string[] {
    return this.units.stages.map(({ entry }) => entry.name);
  }

  #recorded(choice: KernelChoice): KernelChoice {
    return recordedChoice(choice, this.#names(), this.#runs);
  }

  #stage(unit: number): Stage {
    const stage = this.units.stages[unit];
    if (!stage) throw new RangeError(`unit ${unit} does not exist`);
    return stage;
  }
}
