/**
 * The model with its runners, slots and units: everything that a step runs on, in one place.
 *
 * Knows: how to call advance and decode, and how to run a unit alone for measuring it. Must not know: requests,
 * scheduling.
 */
import { PrefillRunner } from '../../model/prefill-runner.js';
import { DecodeRunner } from '../../model/decode-runner.js';
import { HeadRunner } from '../../model/head-runner.js';
import type { KernelName } from '../../model/manifest.js';
import type { Stage, StagedModel } from '../../model/staged-model.js';
import type { CostTable } from '../../cost/table.js';
import { runPrefill, type PrefillResult, type KernelChoice } from './run-prefill.js';
import { runDecode, type DecodeRow } from './run-decode.js';
import { kernelChoice, recordedChoice } from './kernels.js';
import type { KernelRun } from '../protocol.js';
import type { Slot } from '../slots/slot.js';
import { SlotTable } from '../slots/slot-table.js';
import { type ExitUnits, type Units, unitsOf } from './units.js';

export class Executor {
  readonly units: Units;
  readonly table: SlotTable;
  readonly head: HeadRunner;
  readonly #prefillRunner: PrefillRunner;
  readonly #decodeRunner: DecodeRunner;
  #kernel: KernelChoice;
  readonly #runs: KernelRun[] = [];

  /** Until `useCosts`, every unit runs the preferred kernel. */
  constructor(readonly model: StagedModel) {
    this.units = unitsOf(model);
    this.table = new SlotTable(model, this.units);
    this.head = new HeadRunner(model);
    this.#prefillRunner = new PrefillRunner(model);
    this.#decodeRunner = new DecodeRunner(model);
    this.#kernel = this.#recorded(kernelChoice([], this.kernels.slice(0, 1), { units: [] }));
  }

  /** Kernels that are loaded for the stages, preferred first. */
  get kernels(): readonly KernelName[] {
    return [...this.#stage(0).sessions.keys()];
  }

  /** Chooses kernels by these costs from now on. */
  useCosts(table: CostTable): void {
    this.#kernel = this.#recorded(kernelChoice(this.#names(), this.kernels, table));
  }

  /** Which kernels ran since the last call. */
  takeRuns(): KernelRun[] {
    return this.#runs.splice(0);
  }

  /** @throws RangeError when there is no such exit */
  exit(index: number): ExitUnits {
    const exit = this.units.exits[index];
    if (!exit) throw new RangeError(`exit ${index} does not exist`);
    return exit;
  }

  /** See run-prefill.ts. */
  advance(slot: Slot, exit: number, end: number): PrefillResult {
    return runPrefill(this.model, this.units, this.#prefillRunner, slot, this.exit(exit), end, this.#kernel);
  }

  /** See run-decode.ts. */
  decode(rows: readonly DecodeRow[]): number[] {
    return runDecode(this.model, this.units, this.table, this.#decodeRunner, this.head, rows, this.#kernel);
  }

  /** Runs one unit over slots [0, rows) as if each held `context` positions. */
  runRows(unit: number, kernel: KernelName, rows: number, context: number): void {
    this.#decodeRunner.pasts.fill(context, 0, rows);
    if (unit < this.units.trunk) this.#decodeRunner.stage(unit, kernel, rows, context);
    else this.#decodeRunner.block(this.#stage(unit), kernel, 0, rows, context);
  }

  /** Runs one unit over a chunk of slot 0 as if it held `context` positions. */
  runChunk(unit: number, kernel: KernelName, context: number, positions: number): void {
    const input = this.#prefillRunner.scratch(0);
    this.#prefillRunner.stage(this.#stage(unit), kernel, 0, context, positions, input, this.#prefillRunner.scratch(1));
  }

  runEmbed(rows: number): void {
    this.#decodeRunner.embed(rows);
  }

  /** Logits and what sampling reads of them. */
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
    this.#decodeRunner.dispose();
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
