/**
 * The whole engine in planning units: every request, and the costs that requests share.
 *
 * Knows: requests, the cost model. Must not know: demand, exits that are chosen.
 */
import { type CostModel, at } from '../cost/model.js';
import { type ExitCost, type StepMs, affineStepCost, stepTable } from '../cost/step-costs.js';
import type { OutputLengths } from './estimators/output-length.js';
import type { Policy } from './policy.js';
import { type Moment, PlannedRequest, type Planning } from './request.js';
import type { EngineState } from './types.js';

/** Waiting requests beyond this many change no plan of the live ones: the first ones bind already. */
export const PLANNED_WAITING = 64;

export class PlanningState implements Moment {
  readonly model: CostModel;
  readonly policy: Policy;
  readonly lengths: OutputLengths;
  readonly now: number;
  /** So many requests wait that each is served in company, at the TPOT that all get. */
  readonly isCongested: boolean;
  /** Live ones, then the waiting, as given. */
  readonly requests: readonly PlannedRequest[];
  #step: StepMs | undefined;
  #costs: readonly ExitCost[] | undefined;
  #inflation: number | undefined;

  /** @param waitingLimit how many of the waiting count; admission needs all, since the new request may be the last */
  constructor(
    readonly engine: EngineState,
    { model, policy, lengths }: Planning,
    waitingLimit = PLANNED_WAITING,
  ) {
    const { now, slots, live, waiting } = engine;
    this.model = model;
    this.policy = policy;
    this.lengths = lengths;
    this.now = now;
    this.isCongested = waiting.length >= slots;
    this.requests = [
      ...live.map((each) => new PlannedRequest(each, each, this)),
      ...waiting.slice(0, waitingLimit).map((each) => new PlannedRequest(each, null, this)),
    ];
  }

  /** Milliseconds of a step, by rows at each exit, at the mean context of all requests. */
  get step(): StepMs {
    if (this.#step !== undefined) return this.#step;
    const context = this.requests.reduce((sum, each) => sum + each.meanContext, 0);
    return (this.#step = stepTable(this.model, context / Math.max(1, this.requests.length)));
  }

  /** Milliseconds of a step of one row at each of these exits. */
  stepOf(exits: readonly number[]): number {
    const rows = new Int32Array(this.model.shape.exits.length);
    for (const exit of exits) rows[exit] = at(rows, exit) + 1;
    return this.step(rows);
  }

  get costs(): readonly ExitCost[] {
    return (this.#costs ??= affineStepCost(this.step, this.model.shape.exits.length, this.engine.live.length));
  }

  /** Whether any request has a deadline. */
  get hasDeadlines(): boolean {
    return this.requests.some(({ hasDeadline }) => hasDeadline);
  }

  get inflation(): number {
    const { margin, noBudgetShare } = this.policy;
    const hasOthers = (): boolean => this.requests.some(({ hasDeadline }) => !hasDeadline);
    return (this.#inflation ??= (1 + margin) / (hasOthers() ? 1 - noBudgetShare : 1));
  }
}
