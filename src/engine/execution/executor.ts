/**
 * The model with its slots, and the one way to run it: a batch at a time.
 *
 * Must not know: requests, scheduling.
 */
import { at } from '../../util/at.js';
import type { CostTable } from '../scheduler/cost/table.js';
import type { Model, ModelUnit } from '../model/graphs.js';
import type { Head } from '../model/head.js';
import type { StageKernel } from '../model/manifest.js';
import { PagedModel } from '../model/paged-model.js';
import type { StagedModel } from '../model/staged-model.js';
import type { ExitIndex } from '../../protocol/index.js';
import type { MemoryOp, SlotTable } from '../scheduler/kv/slot-table.js';
import { type ExitUnits, type Units, unitsOf } from '../scheduler/kv/units.js';
import { type KernelChoice, kernelChoice } from './kernels.js';
import type { Layout, UnitRuns } from './layout.js';
import { PagesLayout } from './pages-layout.js';
import { SlotsLayout } from './slots-layout.js';
import { commit, rowSpans, type StepBatch } from './step-batch.js';
import type { StepClock } from './step-clock.js';

export class Executor {
  readonly model: Model;
  readonly units: Units<ModelUnit>;
  readonly table: SlotTable;
  readonly head: Head;
  /** See Layout. */
  readonly mostPrefill: number;
  /** Kernels that are loaded for the stages, preferred first. */
  readonly kernels: readonly StageKernel[];
  /** Runs of single units, for calibration. */
  readonly alone: UnitRuns;
  readonly #layout: Layout;
  #kernel: KernelChoice;

  /** Until `useCosts`, every unit runs the preferred kernel. */
  constructor(model: StagedModel | PagedModel) {
    this.model = model;
    this.units = unitsOf(model);
    this.#layout = model instanceof PagedModel ? new PagesLayout(model) : new SlotsLayout(model);
    ({ table: this.table, head: this.head, mostPrefill: this.mostPrefill, alone: this.alone } = this.#layout);
    this.kernels = [...(this.units.stages[0]?.sessions.keys() ?? [])];
    this.#kernel = kernelChoice([], this.kernels.slice(0, 1), { units: [] });
  }

  /** Runs a batch outside of any plan, and then moves the frontiers of its slots. @see execute */
  run(batch: StepBatch, choose?: (head: Head) => void): void {
    this.apply(this.table.takeOps());
    this.execute(batch, choose);
    commit([...batch.chunks, ...rowSpans(batch)]);
  }

  /** Moves and releases memory as the accounts say. */
  apply(ops: readonly MemoryOp[]): void {
    if (ops.length > 0) this.#layout.apply(ops);
  }

  /**
   * Runs a batch and waits for it. Its frontiers stay.
   * @param choose brings to the host what sampling needs of the rows' logits: the only wait of a batch with rows
   * @param clock learns the parts of the step's time
   * @throws RangeError for a chunk beyond the tokens of its slot, or larger than the buffers of the model
   */
  execute(batch: StepBatch, choose?: (head: Head) => void, clock?: StepClock): void {
    if (batch.chunks.length + batch.rows.length === 0) return;
    for (const { slot, exit, end } of batch.chunks) {
      const start = slot.least(exit.needed);
      if (end - start > this.model.limits.maxChunk || end > slot.tokens.length)
        throw new RangeError(`positions ${start} to ${end} exceed a chunk or the tokens of the slot`);
    }
    clock?.enter(batch.rows.length > 0 ? 'decode' : 'prefill');
    this.#layout.run(batch, this.#kernel, clock);
    if (choose !== undefined && batch.rows.length > 0) choose(this.head);
    else this.#layout.wait();
  }

  /** Selects kernels by these costs from the next step on. */
  useCosts(table: CostTable): void {
    const names = this.units.stages.map(({ entry }) => entry.name);
    this.#kernel = kernelChoice(names, this.kernels, table);
  }

  /** @throws RangeError for an index without an exit */
  exit(index: ExitIndex): ExitUnits {
    return at(this.units.exits, index);
  }

  /** Empties all slots, of which any unit wrote up to `written` positions, and returns their memory. */
  forget(written: number): void {
    for (const slot of this.table.slots) {
      for (const unit of slot.frontiers.keys()) slot.reach(unit, written);
      this.table.drop(slot);
    }
    this.table.giveBack(0);
    this.apply(this.table.takeOps());
  }

  dispose(): void {
    this.#layout.dispose();
  }
}
