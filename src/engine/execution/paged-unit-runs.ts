/** Runs single units of a paged model over sequences that share pages: only time and memory of a run count. */
import { type BatchPart, buckets } from '../model/control.js';
import type { ModelUnit } from '../model/graphs.js';
import type { HiddenStore } from '../model/hidden-store.js';
import { isCaptured, type StageKernel } from '../model/manifest.js';
import { MOST_PARTS } from '../model/memory-plan.js';
import type { PagedModel } from '../model/paged-model.js';
import type { Units } from '../scheduler/kv/units.js';
import type { UnitRuns } from './layout.js';

type Part = Omit<BatchPart, 'pages'>;

export class PagedUnitRuns implements UnitRuns {
  readonly #model: PagedModel;
  readonly #units: Units<ModelUnit>;
  /** The states of the last stage. */
  readonly #states: HiddenStore;

  constructor(model: PagedModel, units: Units<ModelUnit>, states: HiddenStore) {
    this.#model = model;
    this.#units = units;
    this.#states = states;
  }

  rows(unit: number, kernel: StageKernel, rows: number, context: number): void {
    const parts = Array.from({ length: rows }, () => ({ past: context, count: 1 }));
    this.#run(unit, kernel, parts);
  }

  chunk(unit: number, kernel: StageKernel, context: number, positions: number): void {
    this.#run(this.#model.keysOf(unit) ?? unit, kernel, [{ past: context, count: positions }]);
  }

  embed(rows: number): void {
    this.#model.run({ ids: new Array<number>(rows).fill(0), units: [], head: null });
    this.#model.wait();
  }

  head(rows: number): void {
    const { head } = this.#model;
    const unit = this.#units.trunkStages - 1;
    const wanted = Array.from({ length: rows }, (_, i) => ({ unit, row: i % this.#states.rows }));
    this.#model.run({ ids: [], units: [], head: { rows: wanted, norms: new Array<number>(rows).fill(0) } });
    head.inverseTemperatures.fill(1, 0, rows);
    head.choose(0, rows);
  }

  /**
   * Runs everything at its largest shape: most positions of most sequences, each at its end. So the device has the
   * memory of all later steps. @throws Error if it has too little
   */
  reserve(): void {
    const { maxRows, capacity } = this.#model.limits;
    const rows = Math.min(maxRows, MOST_PARTS);
    let left = this.#model.maxTokens - rows;
    const parts = Array.from({ length: rows }, () => {
      const count = Math.min(left + 1, capacity);
      left -= count - 1;
      return { past: capacity - count, count };
    });
    this.embed(this.#model.maxTokens);
    const { stages } = this.#units;
    const all = stages.flatMap(({ sessions }, unit) => [...sessions.keys()].map((kernel) => ({ unit, kernel })));
    for (const { unit, kernel } of all) {
      this.#run(unit, kernel, parts);
      const keys = this.#model.keysOf(unit);
      if (keys !== null) this.#run(keys, kernel, parts);
    }
    this.head(maxRows);
    // Graphs are captured last: memory that a first run keeps for good is not theirs.
    for (const { unit, kernel } of all)
      for (const count of isCaptured(kernel) ? buckets(rows) : []) this.rows(unit, kernel, count, capacity - 1);
  }

  #run(unit: number, kernel: StageKernel, parts: readonly Part[]): void {
    const { pages, page } = this.#model.limits;
    const table = ({ past, count }: Part): number[] =>
      Array.from({ length: Math.ceil((past + count) / page) }, (_, i) => i % pages);
    const batch = parts.map((part) => ({ ...part, pages: table(part) }));
    this.#model.run({ ids: [], units: [{ unit, kernel, parts: batch, like: null }], head: null });
    this.#model.wait();
  }
}
