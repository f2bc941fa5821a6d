/** Runs a model whose KV cache has slots: chunks one by one, then the batch. Each call computes what it returns. */
import { DecodeRunner } from '../../model/decode-runner.js';
import { HeadRunner } from '../../model/head-runner.js';
import type { StageKernel } from '../../model/manifest.js';
import { PrefillRunner } from '../../model/prefill-runner.js';
import type { Stage, StagedModel } from '../../model/staged-model.js';
import { SlotPlaces } from '../slots/slot-places.js';
import { SlotTable } from '../slots/slot-table.js';
import type { Slot } from '../slots/slot.js';
import type { Layout } from './layout.js';
import { type DecodeRow, runDecode } from './run-decode.js';
import { type KernelChoice, type PrefillResult, runPrefill } from './run-prefill.js';
import { type ExitUnits, stageAt, type Units, unitsOf } from './units.js';

export class SlotsLayout implements Layout {
  readonly table: SlotTable;
  readonly head: HeadRunner;
  readonly mostPrefill = Infinity;
  readonly #model: StagedModel;
  readonly #units: Units<Stage>;
  readonly #prefill: PrefillRunner;
  readonly #decode: DecodeRunner;

  constructor(model: StagedModel) {
    this.#model = model;
    this.#units = unitsOf(model);
    this.table = new SlotTable(model.limits.slots, this.#units, new SlotPlaces(model, this.#units));
    this.head = new HeadRunner(model);
    this.#prefill = new PrefillRunner(model);
    this.#decode = new DecodeRunner(model);
  }

  advance(slot: Slot, exit: ExitUnits, end: number, kernel: KernelChoice): PrefillResult {
    const context = { model: this.#model, units: this.#units, runner: this.#prefill, head: this.head, kernel };
    return runPrefill(context, slot, exit, end);
  }

  decode(rows: readonly DecodeRow[], kernel: KernelChoice): number[] {
    const at = (index: number): Slot => this.table.at(index);
    const context = { model: this.#model, units: this.#units, at, runner: this.#decode, head: this.head, kernel };
    return runDecode(context, rows);
  }

  settle(): void {
    // Every call has run to its end.
  }

  runRows(unit: number, kernel: StageKernel, rows: number, context: number): void {
    this.#decode.pasts.fill(context, 0, rows);
    if (unit < this.#units.trunk) this.#decode.stage(unit, kernel, rows, context);
    else this.#decode.block(stageAt(this.#units, unit), kernel, 0, rows, context);
  }

  runChunk(unit: number, kernel: StageKernel, context: number, positions: number): void {
    const runner = this.#prefill;
    runner.stage(stageAt(this.#units, unit), kernel, 0, context, positions, runner.scratch(0), runner.scratch(1));
  }

  runEmbed(rows: number): void {
    this.#decode.embed(rows);
  }

  runHead(rows: number): void {
    this.head.inverseTemperatures.fill(1, 0, rows);
    this.head.logits(rows);
    this.head.select(0, rows);
  }

  reserve(): void {
    // Main memory grows with its use.
  }

  dispose(): void {
    this.head.dispose();
    this.#decode.dispose();
    this.#model.dispose();
  }
}
