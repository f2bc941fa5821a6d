/**
 * The whole engine in planning units: every request with its floor, its work at each exit and the instant it is due.
 *
 * The floor of a request is the exit that bounds its answer: the cheapest one at which it ends in time with the stated
 * probability, or the one most likely to be in time where none does.
 */
import type { CostModel } from '../cost/model.js';
import {
  type AffineStepCost,
  type StepMs,
  affineStepCost,
  oneRowStepMs,
  promptMs,
  stepTable,
  tokenMs,
} from '../cost/step-costs.js';
import type { OutputLengths } from './estimators/output-length.js';
import { type Policy, plannedChunk } from './policy.js';
import {
  type PlannedRequest,
  aloneMs,
  meanContext,
  meanStepsLeft,
  plannedRequest,
  probabilityWithin,
  setupMs,
  stepsLeft,
  virtualDeadline,
} from './request.js';
import type { EngineState } from './types.js';

/** Waiting requests beyond this many change no plan of the live ones: the first ones bind already. */
export const PLANNED_WAITING = 64;
/** Rows that share a step, about, where costs of exits are compared. */
const SHARED_ROWS = 4;

/** Mean decode steps of an answer that begins at an exit: there, and later at the floor. */
export interface Path {
  readonly deep: number;
  readonly rest: number;
  /** Steps until the exit is decided again, if the answer gets so long; Infinity where it keeps its exit. */
  readonly commit: number;
}

export interface Planning {
  readonly model: CostModel;
  readonly policy: Policy;
  readonly lengths: OutputLengths;
}

export class PlanningState implements Planning {
  /** Live ones, then the waiting, as given. */
  readonly requests: readonly PlannedRequest[];
  readonly step: StepMs;
  readonly cost: AffineStepCost;
  /** By request. */
  readonly floors: Int32Array;
  readonly model: CostModel;
  readonly policy: Policy;
  readonly lengths: OutputLengths;
  readonly exits: number;
  /** What a planned millisecond counts with: the margin, and the share of requests without a budget, if any. */
  readonly inflation: number;
  readonly #setup: Float64Array;
  readonly #paths: (Path | undefined)[] = [];
  readonly #due: Float64Array;
  readonly #isCongested: boolean;

  /** @param waitingLimit how many of the waiting count; admission needs all, since the new request may be the last */
  constructor(
    readonly state: EngineState,
    { model, policy, lengths }: Planning,
    waitingLimit = PLANNED_WAITING,
    requests?: readonly PlannedRequest[],
  ) {
    this.model = model;
    this.policy = policy;
    this.lengths = lengths;
    this.exits = model.shape.exits.length;
    this.requests =
      requests ??
      [
        ...state.live.map((each) => plannedRequest(each, each, model, lengths, policy)),
        ...state.waiting.slice(0, waitingLimit).map((each) => plannedRequest(each, null, model, lengths, policy)),
      ].map((each) => shedByDepth(each, model, policy));
    let context = 0;
    for (const each of this.requests) context += meanContext(each);
    this.step = stepTable(model, this.requests.length === 0 ? 0 : context / this.requests.length);
    this.cost = affineStepCost(this.step, this.exits, state.live.length);
    const cells = this.requests.length * this.exits;
    this.#setup = new Float64Array(cells).fill(-1);
    this.#due = new Float64Array(this.requests.length).fill(-1);
    this.#isCongested = isCongested(state);
    const hasOthers = this.requests.some(({ hasDeadline }) => !hasDeadline);
    this.inflation = (1 + policy.margin) / (hasOthers ? 1 - policy.noBudgetShare : 1);
    this.floors = new Int32Array(this.requests.length);
    this.requests.forEach((each, i) => {
      this.floors[i] = this.#floorOf(each, i);
    });
  }

  /** @throws Error for an index without a request */
  at(i: number): PlannedRequest {
    const planned = this.requests[i];
    if (planned === undefined) throw new RangeError(`no planned request ${i} of ${this.requests.length}`);
    return planned;
  }

  floor(i: number): number {
    return this.floors[i] ?? 0;
  }

  /** Prefill or catch-up that an exit takes first, ms. A catch-up runs in one piece where it can. */
  setupMs(i: number, exit: number): number {
    const cell = i * this.exits + exit;
    const known = this.#setup[cell] ?? -1;
    if (known >= 0) return known;
    const planned = this.at(i);
    const chunk = planned.isPrefilling ? plannedChunk(this.policy) : (this.policy.chunks.at(-1) ?? 1);
    return (this.#setup[cell] = setupMs(planned, exit, this.model, chunk, planned.request.expectedFrontier));
  }

  /**
   * Mean decode steps left on the path of an exit: `deep` at the exit, until it is decided again, and `rest` at the floor.
   * Steps count as far as they fit before the request's own deadline.
   */
  path(i: number, exit: number): Path {
    const cell = i * this.exits + exit;
    return (this.#paths[cell] ??= this.#pathOf(i, exit));
  }

  /** Mean decode steps left on the path of an exit. */
  meanSteps(i: number, exit: number): number {
    const { deep, rest } = this.path(i, exit);
    return deep + rest;
  }

  #pathOf(i: number, exit: number): Path {
    const planned = this.at(i);
    const floor = this.floor(i);
    const { lengths, request, deadlines } = planned;
    const openMs = (deadlines.end - this.state.now) / this.inflation - this.setupMs(i, exit);
    const fitting = (ms: number, at: number): number =>
      ms === Infinity ? Infinity : Math.max(1, ms / tokenMs(this.cost, at, 1));
    if (lengths === null || exit === floor) {
      return { deep: meanStepsLeft(planned, exit, fitting(openMs, exit)), rest: 0, commit: Infinity };
    }
    const left = request.maxTokens - request.generated;
    const commit = Math.min(this.policy.commitTokens, left, fitting(openMs, exit));
    const deep = meanStepsLeft(planned, exit, commit);
    const longer = 1 - probabilityWithin(planned, exit, commit);
    const later = { ...planned, request: { ...request, generated: request.generated + commit } };
    const openLater = openMs - commit * tokenMs(this.cost, exit, 1);
    return { deep, rest: longer * meanStepsLeft(later, floor, fitting(openLater, floor)), commit };
  }

  /**
   * Probability that a request ends in time on the path of an exit.
   * @param slackMs time left beyond the mean path; negative where not even that fits
   */
  pathProbability(i: number, exit: number, slackMs: number): number {
    const planned = this.at(i);
    if (planned.lengths === null) return slackMs >= 0 ? 1 : 0;
    const floor = this.floor(i);
    const { deep, rest, commit } = this.path(i, exit);
    if (commit === Infinity) return probabilityWithin(planned, exit, deep + slackMs / tokenMs(this.cost, exit, 1));
    const beyondMs = slackMs + rest * tokenMs(this.cost, floor, 1);
    if (beyondMs < 0) return probabilityWithin(planned, exit, commit + beyondMs / tokenMs(this.cost, exit, 1));
    const within = probabilityWithin(planned, exit, commit);
    const before = 1 - probabilityWithin(planned, floor, commit);
    const later = 1 - probabilityWithin(planned, floor, commit + beyondMs / tokenMs(this.cost, floor, 1));
    return within + (1 - within) * (before <= 0 ? 1 : 1 - later / before);
  }

  /** Mean quality of the tokens on the path of an exit. */
  pathQuality(i: number, exit: number): number {
    const { deep, rest } = this.path(i, exit);
    const { exits } = this.model.shape;
    const quality = (at: number): number => exits[at]?.quality ?? 0;
    return (deep * quality(exit) + rest * quality(this.floor(i))) / Math.max(1e-9, deep + rest);
  }

  /** What the path of an exit is worth: an answer in time, by the operator's weight of attainment, and its quality. */
  pathValue(i: number, exit: number, slackMs: number): number {
    const { attainmentWeight } = this.policy;
    const worth = attainmentWeight + (1 - attainmentWeight) * this.pathQuality(i, exit);
    return this.pathProbability(i, exit, slackMs) * worth;
  }

  /** Instant by which a request is to be served: its deadline while it can be met, else its virtual deadline. */
  dueAt(i: number): number {
    const known = this.#due[i] ?? -1;
    return known >= 0 ? known : (this.#due[i] = serviceDeadline(this.at(i), this.state.now, this.#isCongested, this));
  }

  /** The state with another total budget for one request, from now on, and the lengths of such budgets. */
  withBudget(i: number, ms: number): PlanningState {
    const { now } = this.state;
    const deadlines = { firstToken: Infinity, end: now + ms, tpotMs: Infinity };
    const requests = this.requests.map((each, at) => {
      if (at !== i) return each;
      const totalMs = now + ms - each.request.arrivedAt + this.policy.requestOverheadMs;
      return { ...each, deadlines, lengths: each.lengths && this.lengths.of(each.request.lengthGroup, totalMs) };
    });
    return new PlanningState(this.state, this, requests.length, requests);
  }

  #floorOf(planned: PlannedRequest, i: number): number {
    const { minExit, maxExit, deadlines, lengths } = planned;
    if (lengths === null || minExit === maxExit) return minExit;
    const openMs = (deadlines.end - this.state.now) / this.inflation;
    let cheapest = -1;
    let leastMs = Infinity;
    let likeliest = minExit;
    let mostLikely = -1;
    for (let exit = minExit; exit <= maxExit; exit += 1) {
      const setup = this.setupMs(i, exit);
      const inTime =
        deadlines.end === Infinity
          ? 1
          : probabilityWithin(planned, exit, (openMs - setup) / tokenMs(this.cost, exit, 1));
      if (inTime > mostLikely + 1e-6) [mostLikely, likeliest] = [inTime, exit];
      const ms = setup + meanStepsLeft(planned, exit) * tokenMs(this.cost, exit, SHARED_ROWS);
      if (inTime >= this.policy.floorConfidence && ms < leastMs) [leastMs, cheapest] = [ms, exit];
    }
    return cheapest < 0 ? likeliest : cheapest;
  }
}

/** With shedding by depth, requests without a budget have the deadline that keeps them from starving. */
function shedByDepth(planned: PlannedRequest, model: CostModel, policy: Policy): PlannedRequest {
  const { request, maxExit } = planned;
  if (!policy.shedDepth || request.budget !== null) return planned;
  // All of its work, not what is left of it: the deadline stays where it is.
  const wholeMs =
    promptMs(model, maxExit, request.promptLength, plannedChunk(policy)) +
    (request.generated + stepsLeft(planned, maxExit, 0.5)) * oneRowStepMs(model, maxExit, meanContext(planned));
  const end = virtualDeadline(request.arrivedAt, wholeMs, policy);
  return { ...planned, hasDeadline: true, deadlines: { ...planned.deadlines, end } };
}

/** So many requests wait that each is served in company, at the TPOT that all get. */
export function isCongested({ slots, waiting }: Pick<EngineState, 'slots' | 'waiting'>): boolean {
  return waiting.length >= slots;
}

/** A request waits for a slot that another one holds: only answers that end make room. */
export function isSaturated({ live, slots, waiting }: EngineState): boolean {
  return live.length >= slots && waiting.length > 0;
}

/**
 * Whether a budget can still be met at the median length: by an idle machine, or under congestion, at the observed TPOT.
 * A request that is urgent but hopeless in company would only make others late.
 */
export function isReachable(
  planned: PlannedRequest,
  now: number,
  isCongested: boolean,
  { model, policy }: Planning,
): boolean {
  const { deadlines, minExit, request } = planned;
  if (!planned.hasDeadline) return false;
  const chunk = plannedChunk(policy);
  const { firstToken, end } = deadlines;
  if (end === Infinity && firstToken !== Infinity && request.firstTokenAt === null) {
    const ms = setupMs(planned, minExit, model, chunk) + oneRowStepMs(model, minExit, meanContext(planned));
    return now + (isCongested ? policy.congestionFactor : 1) * ms <= firstToken;
  }
  const paced = isCongested
    ? policy.congestionFactor *
      (setupMs(planned, minExit, model, chunk) + stepsLeft(planned, minExit, 0.5) * model.drift.tpotMs)
    : 0;
  return now + Math.max(paced, aloneMs(planned, minExit, model, policy)) <= end;
}

/** The key of the queue: the deadline while it can be met, else the one that keeps a request from starving. */
export function serviceDeadline(
  planned: PlannedRequest,
  now: number,
  isCongested: boolean,
  planning: Planning,
): number {
  const { model, policy } = planning;
  const { request, deadlines, maxExit, minExit } = planned;
  const virtual = (): number => virtualDeadline(request.arrivedAt, aloneMs(planned, maxExit, model, policy), policy);
  if (!isReachable(planned, now, isCongested, planning)) return virtual();
  const { firstToken, end, tpotMs } = deadlines;
  const firstMs = setupMs(planned, minExit, model, plannedChunk(policy)) + oneRowStepMs(model, minExit, 0);
  // The first token is due before the answer. A first token that is late is no deadline any more.
  const isFirstDue = request.firstTokenAt === null && now + firstMs <= firstToken;
  const due = Math.min(end, isFirstDue ? firstToken : Infinity);
  if (due !== Infinity) return due;
  // A budget of TPOT alone is never late: the request takes its turn as if that TPOT gave its deadline.
  return tpotMs === Infinity
    ? virtual()
    : request.arrivedAt + tpotMs * (request.generated + stepsLeft(planned, maxExit, 0.9));
}
