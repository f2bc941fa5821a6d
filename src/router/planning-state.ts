/**
 * The whole engine in planning units: every request, and the costs that requests share.
 *
 * Knows: requests, the cost model. Must not know: exits that are chosen.
 */
import { type CostModel, at } from '../cost/model.js';
import { type ExitCost, type StepMs, affineStepCost, stepTable } from '../cost/step-costs.js';
import type { OutputLengths } from './output-length.js';
import type { Policy } from './policy.js';
import { type Moment, PlannedRequest, type Planning } from './request.js';
import type { EngineState } from './types.js';
import type { Worth } from './worth.js';

/** Waiting requests beyond this many change no plan of the live ones: the first ones bind already. */
export const PLANNED_WAITING = 64;

export class PlanningState implements Moment {
  readonly model: CostModel;
  readonly policy: Policy;
  readonly lengths: OutputLengths;
  readonly worth: Worth;
  readonly now: number;
  readonly sentenceTokens: number;
  /** Live ones, then the waiting, as given. */
  readonly requests: readonly PlannedRequest[];
  #step: StepMs | undefined;
  #batchStepMs: number | undefined;
  #costs: readonly ExitCost[] | undefined;

  /** @param waitingLimit how many of the waiting count; admission needs all, since the new request may be the last */
  constructor(
    readonly engine: EngineState,
    planning: Planning,
    waitingLimit = PLANNED_WAITING,
  ) {
    const { now, live, waiting, sentenceTokens } = engine;
    this.model = planning.model;
    this.policy = planning.policy;
    this.lengths = planning.lengths;
    this.worth = planning.worth;
    this.now = now;
    this.sentenceTokens = sentenceTokens;
    this.requests = [
      ...live.map((each) => new PlannedRequest(each, each, this)),
      ...waiting.slice(0, waitingLimit).map((each) => new PlannedRequest(each, null, this)),
    ];
  }

  /** Milliseconds of a step, by rows at each exit, at the mean context of all requests. */
  get step(): StepMs {
    if (this.#step !== undefined) return this.#step;
    const context = this.requests.reduce((sum, { target }) => sum + target, 0);
    return (this.#step = stepTable(this.model, context / Math.max(1, this.requests.length)));
  }

  /** Milliseconds of a step of one row at each of these exits. */
  stepOf(exits: readonly number[]): number {
    const rows = new Int32Array(this.model.shape.exits.length);
    for (const exit of exits) rows[exit] = at(rows, exit) + 1;
    return this.step(rows);
  }

  get batchStepMs(): number {
    return (this.#batchStepMs ??= this.#batchStepMsOf());
  }

  #batchStepMsOf(): number {
    const rows = this.requests.filter((each) => each.live !== null && !each.isPrefilling);
    return rows.length === 0 ? 0 : this.stepOf(rows.map(({ currentExit }) => currentExit));
  }

  /** By exit, with the margin. */
  get costs(): readonly ExitCost[] {
    return (this.#costs ??= this.#costsOf());
  }

  #costsOf(): ExitCost[] {
    const { margin } = this.policy;
    const rows = this.requests.length;
    return affineStepCost(this.step, this.model.shape.exits.length, rows).map(({ rowMs, fixedMs }) => {
      return { rowMs: rowMs * (1 + margin), fixedMs: fixedMs * (1 + margin) };
    });
  }

  /** Whether any request has a deadline. */
  get hasDeadlines(): boolean {
    return this.requests.some(({ hasDeadline }) => hasDeadline);
  }

  /** Factor on each millisecond of requests with a deadline, beside requests without one, which take their share. */
  get inflation(): number {
    const hasOthers = this.requests.some(({ hasDeadline }) => !hasDeadline);
    return hasOthers ? 1 / (1 - Math.min(0.9, this.policy.noBudgetShare)) : 1;
  }
}
