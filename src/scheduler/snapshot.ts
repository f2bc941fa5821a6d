/**
 * The whole engine in planning units: every request, the costs that requests share, and the order of service. It is built
 * whole, then read.
 *
 * Knows: requests, the cost model. Must not know: exits that are chosen.
 */
import { type CostModel, type ExitIndex, at, exitIndex } from '../cost/model.js';
import { type ExitCost, type StepMs, affineStepCost, stepTable } from '../cost/step-costs.js';
import type { OutputLengths, Worth } from './output-length.js';
import type { Policy } from './policy.js';
import { type Moment, PlannedRequest, type Planning } from './planned-request.js';
import type { EngineState, SequenceView } from './types.js';

export class PlanningState implements Moment {
  readonly model: CostModel;
  readonly policy: Policy;
  readonly lengths: OutputLengths;
  readonly worth: Worth;
  readonly now: number;
  readonly sentenceTokens: number;
  readonly batchStepMs: number;
  /** Live ones, then the waiting, as given. */
  readonly requests: readonly PlannedRequest[];
  /** By exit, with the margin. */
  readonly costs: readonly ExitCost[];
  /** Share of the machine that promises leave to other requests, and the slots that these keep: never all. */
  readonly othersShare: number;
  readonly keptSlots: number;
  /** Milliseconds of a step, by rows at each exit, at the mean context of all requests. */
  readonly #step: StepMs;

  /** @param waitingLimit how many of the waiting count; admission needs all, since the new request may be the last */
  constructor(
    readonly engine: EngineState,
    planning: Planning,
    waitingLimit = planning.policy.plannedWaiting,
  ) {
    const { now, live, waiting, sentenceTokens, slots } = engine;
    this.model = planning.model;
    this.policy = planning.policy;
    this.lengths = planning.lengths;
    this.worth = planning.worth;
    this.now = now;
    this.sentenceTokens = sentenceTokens;
    const counted = waiting.slice(0, waitingLimit);
    const count = live.length + counted.length;
    let context = 0;
    for (const { promptLength, generated } of live) context += promptLength + generated - 1;
    for (const { promptLength, generated } of counted) context += promptLength + generated - 1;
    this.#step = stepTable(this.model, context / Math.max(1, count));
    const { shape } = this.model;
    const rows = live.filter(isDecoding).map(({ exit, maxExit }) => exitIndex(shape, Math.min(exit, maxExit)));
    this.batchStepMs = rows.length === 0 ? 0 : this.stepOf(rows);
    const careful = 1 + this.policy.margin;
    this.costs = affineStepCost(this.#step, shape.exits.length, count).map(({ rowMs, fixedMs }) => {
      return { rowMs: rowMs * careful, fixedMs: fixedMs * careful };
    });
    this.requests = [
      ...live.map((each) => new PlannedRequest(each, each, this)),
      ...counted.map((each) => new PlannedRequest(each, null, this)),
    ];
    const others = this.requests.filter(({ isPromised }) => !isPromised).length;
    this.othersShare = othersShare(this.requests, this.policy.noBudgetShare);
    this.keptSlots = Math.max(0, Math.min(others, Math.max(1, Math.floor(this.othersShare * slots)), slots - 1));
  }

  /** Milliseconds of a step of one row at each of these exits. */
  stepOf(exits: readonly ExitIndex[]): number {
    const rows = new Int32Array(this.model.shape.exits.length);
    for (const exit of exits) rows[exit] = at(rows, exit) + 1;
    return this.#step(rows);
  }

  /** Whether any request has a deadline. */
  get hasDeadlines(): boolean {
    return this.requests.some(({ hasDeadline }) => hasDeadline);
  }
}

/** Requests without a promise have their share, and at least that of the keys that have no promise. */
function othersShare(requests: readonly PlannedRequest[], noBudgetShare: number): number {
  const keys = new Set(requests.map(({ request }) => request.tenant));
  const promised = new Set(requests.filter(({ isPromised }) => isPromised).map(({ request }) => request.tenant));
  return promised.size === 0 ? noBudgetShare : Math.max(noBudgetShare, 1 - promised.size / keys.size);
}

/** Whether a live sequence has begun its answer, and has all but its last position. */
function isDecoding({ generated, frontier, promptLength }: SequenceView): boolean {
  return generated > 0 && (frontier[0] ?? 0) >= promptLength + generated - 1;
}

export interface Served {
  /** Requests whose deadlines can be met in this order. */
  readonly due: readonly PlannedRequest[];
  readonly others: readonly PlannedRequest[];
}

/**
 * All requests in order of service: earliest deadline first, as far as deadlines can be met one after the other. Other
 * requests follow by arrival: without a budget, or with one that can't be met.
 *
 * Without load shedding each prompt would start when it is nearly late, and in overload all of them would be late.
 */
export function served(requests: readonly PlannedRequest[]): Served {
  const byArrival = [...requests].sort((a, b) => a.request.arrivedAt - b.request.arrivedAt);
  const byDeadline = byArrival.filter(({ dueAt }) => dueAt < Infinity).sort((a, b) => a.dueAt - b.dueAt);
  const due = new Set<PlannedRequest>();
  let waitMs = 0;
  for (const each of byDeadline) {
    if (!each.isReachableIn(waitMs)) continue;
    due.add(each);
    if (each.isPrefilling) waitMs += each.setupMs(each.minExit);
  }
  return { due: [...due], others: byArrival.filter((each) => !due.has(each)) };
}

/** Requests in order of service. */
export function inService(requests: readonly PlannedRequest[]): readonly PlannedRequest[] {
  const { due, others } = served(requests);
  return [...due, ...others];
}
