/** Runs a model whose KV cache has slots: chunks one by one, then the rows as one batch. */
import { DecodeRunner } from '../model/decode-runner.js';
import { HeadRunner } from '../model/head-runner.js';
import { PrefillRunner } from '../model/prefill-runner.js';
import type { Stage, StagedModel } from '../model/staged-model.js';
import { SlotAccount } from '../scheduler/kv/slot-account.js';
import type { MemoryOp } from '../scheduler/kv/kv-account.js';
import { SlotTable } from '../scheduler/kv/slot-table.js';
import { stageAt, type Units, unitsOf } from '../scheduler/kv/units.js';
import type { KernelChoice } from './kernels.js';
import type { Layout, UnitRuns } from './layout.js';
import { runDecode } from './run-decode.js';
import { type PrefillContext, runPrefill } from './run-prefill.js';
import { applyMemory, positionBytes } from './slot-memory.js';
import { type Frontier, frontierBehind, rowSpans, type StepBatch } from './step-batch.js';
import type { StepClock } from './step-clock.js';

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
    this.table = new SlotTable(
      model.limits.slots,
      this.#units,
      new SlotAccount(this.#units, positionBytes(model, this.#units)),
    );
    this.head = new HeadRunner(model);
    this.#prefill = new PrefillRunner(model);
    this.#decode = new DecodeRunner(model);
  }

  run(batch: StepBatch, kernel: KernelChoice, clock?: StepClock): void {
    const { chunks, rows, draft } = batch;
    const parts = { model: this.#model, units: this.#units, head: this.head, kernel };
    const prefill = { ...parts, runner: this.#prefill };
    for (const chunk of chunks) {
      clock?.enter('prefill');
      const states = runPrefill(prefill, chunk, chunk.slot.tokens, frontierBehind([]), chunk.read !== undefined);
      if (states !== null) chunk.read?.(states);
    }
    const frontier = frontierBehind(chunks);
    if (rows.length > 0) clock?.enter('decode');
    if (draft !== null) this.#verify(prefill, batch, draft.tokens, frontier, clock);
    else if (rows.length > 0) {
      runDecode({ ...parts, runner: this.#decode, at: (index) => this.table.at(index), frontier }, rows);
      clock?.enter('head');
      this.head.logits(rows.length);
    }
  }

  apply(ops: readonly MemoryOp[]): void {
    applyMemory(this.#model, this.#units, ops);
  }

  wait(): void {
    // Every call has run to its end.
  }

  readonly alone: UnitRuns = {
    rows: (unit, kernel, rows, context) => {
      this.#decode.pasts.fill(context, 0, rows);
      if (unit < this.#units.trunkStages) this.#decode.stage(unit, kernel, rows, context);
      else this.#decode.block(stageAt(this.#units, unit), kernel, 0, rows, context);
    },
    chunk: (unit, kernel, context, positions) => {
      const runner = this.#prefill;
      const stage = stageAt(this.#units, unit);
      if (stage.keys !== undefined) runner.keys(stage, kernel, 0, context, positions, runner.scratch(0));
      else runner.stage(stage, kernel, 0, context, positions, runner.scratch(0), runner.scratch(1));
    },
    embed: (rows) => {
      this.#decode.embed(rows);
    },
    head: (rows) => {
      this.head.inverseTemperatures.fill(1, 0, rows);
      this.head.logits(rows);
      this.head.select(0, rows);
    },
  };

  dispose(): void {
    this.head.dispose();
    this.#decode.dispose();
    this.#model.dispose();
  }

  /** Runs the last token and the draft of the only row as one chunk, and takes all of their states to the head. */
  #verify(
    context: PrefillContext,
    batch: StepBatch,
    draft: readonly number[],
    frontier: Frontier,
    clock?: StepClock,
  ): void {
    for (const span of rowSpans(batch)) {
      const states = runPrefill(context, span, [...span.slot.tokens, ...draft], frontier, true);
      clock?.enter('head');
      states?.toHead(span.end - draft.length - 1, draft.length + 1);
    }
  }
}
