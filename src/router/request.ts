/**
 * One request in planning units: deadlines as instants, work left as milliseconds and tokens at each exit, and its floor.
 *
 * Knows: one request, the moment of planning. Must not know: other requests.
 */
import { advanceMs, frontierAt } from '../cost/frontier.js';
import { type CostModel, at, exitIndex } from '../cost/model.js';
import { type ExitCost, oneRowStepMs, promptMs, tokenMs } from '../cost/step-costs.js';
import type { LengthDistribution, OutputLengths } from './estimators/output-length.js';
import { type Policy, plannedChunk } from './policy.js';
import type { Budget, RequestView, SequenceView } from './types.js';

/** Rows that share a step, about, where costs of exits are compared. */
export const SHARED_ROWS = 4;

/** The estimates that every plan uses. */
export interface Planning {
  readonly model: CostModel;
  readonly policy: Policy;
  readonly lengths: OutputLengths;
}

/** The estimates, and the state of the engine as far as one request depends on it. */
export interface Moment extends Planning {
  readonly now: number;
  readonly isCongested: boolean;
  /** By exit, at the present context. */
  readonly costs: readonly ExitCost[];
  /** Factor on each planned millisecond: the margin, and the share of requests without a budget, if any is present. */
  readonly inflation: number;
}

/** The instants of a budget; Infinity where it states nothing. */
export interface Deadlines {
  readonly firstToken: number;
  readonly end: number;
  /** Mean milliseconds per token after the first. */
  readonly tpotMs: number;
}

/** Mean decode steps of an answer that begins at an exit: there, and later at the floor. */
export interface Path {
  readonly deep: number;
  readonly rest: number;
  /** Steps until the exit is decided again, if the answer gets so long; Infinity where it keeps its exit. */
  readonly commit: number;
}

/** Exits are indices into the shape. */
export class PlannedRequest {
  readonly minExit: number;
  readonly maxExit: number;
  readonly currentExit: number;
  readonly deadlines: Deadlines;
  readonly hasDeadline: boolean;
  /** Prompt, or after preemption prompt and answer, is not processed yet. */
  readonly isPrefilling: boolean;
  /** Positions that every stage of its exit has processed before its next decode step: all but the last. */
  readonly target: number;
  /** Mean positions that attention reads for this request until it ends. */
  readonly meanContext: number;
  readonly #moment: Moment;
  /** By exit; empty where the answer runs to maxTokens. */
  readonly #lengths: readonly LengthDistribution[];
  /** By exit. */
  readonly #setupMs: number[] = [];
  readonly #paths: Path[] = [];
  #floor: number | undefined;
  #dueAt: number | undefined;

  /** @param live null while it holds no slot */
  constructor(
    readonly request: RequestView,
    readonly live: SequenceView | null,
    moment: Moment,
  ) {
    this.#moment = moment;
    const { model, policy } = moment;
    const { budget, arrivedAt, generated } = request;
    this.minExit = exitIndex(model.shape, request.minExit);
    this.maxExit = exitIndex(model.shape, request.maxExit);
    this.currentExit = exitIndex(model.shape, request.exit);
    this.target = request.promptLength + generated - 1;
    this.isPrefilling = generated === 0 || (live?.frontier[0] ?? 0) < this.target;
    this.#lengths = lengthsOf(request, moment.lengths);
    this.meanContext = request.promptLength + generated + this.meanStepsLeft(this.maxExit) / 2;
    const isShed = policy.shedDepth && budget === null;
    this.hasDeadline = isShed || hasBudget(budget);
    this.deadlines = deadlinesOf(arrivedAt, budget, policy);
    if (isShed) this.deadlines = { ...this.deadlines, end: this.#virtualDeadline(this.#wholeMs()) };
  }

  /**
   * Mean decode steps left at an exit: one for each token, the first one after the prompt included.
   * @param most steps that count: an estimate beyond them counts as them
   */
  meanStepsLeft(exit: number, most = Infinity, after = 0): number {
    const { maxTokens } = this.request;
    const generated = this.request.generated + after;
    const mean = this.#lengths[exit]?.meanLeft(generated, Math.min(maxTokens, generated + most));
    return mean ?? Math.max(0, maxTokens - generated);
  }

  /** Decode steps left that a share of such answers does not exceed at an exit. */
  stepsLeft(exit: number, share: number): number {
    const { generated, maxTokens } = this.request;
    return (this.#lengths[exit]?.quantile(share, generated, maxTokens) ?? maxTokens) - generated;
  }

  /** Probability that at most so many decode steps are left at an exit. */
  probabilityWithin(exit: number, steps: number): number {
    const { generated, maxTokens } = this.request;
    if (steps >= maxTokens - generated) return 1;
    const length = this.#lengths[exit];
    if (length === undefined) return 0;
    return 1 - length.longerThan(generated + Math.max(0, steps)) / Math.max(1e-9, length.longerThan(generated));
  }

  /** Positions that an exit's units lack: the rest of the prompt, or the catch-up of a deeper exit. */
  remainingPrefill(exit: number, frontier = this.request.frontier): number {
    return Math.max(0, this.target - frontierAt(frontier, exit, this.#moment.model));
  }

  /**
   * Prefill or catch-up that an exit takes first, ms, less the prefix that another prompt is expected to compute. A
   * catch-up runs in one piece where it can.
   */
  setupMs(exit: number): number {
    return (this.#setupMs[exit] ??= this.#advanceMs(exit, this.request.expectedFrontier));
  }

  #advanceMs(exit: number, frontier: readonly number[]): number {
    const { model, policy } = this.#moment;
    const chunk = this.isPrefilling ? plannedChunk(policy) : at(policy.chunks, policy.chunks.length - 1);
    return advanceMs(frontier, exit, this.target, model, chunk);
  }

  /**
   * Milliseconds that the request most likely takes on an idle machine at an exit. No expected prefix shortens it: else a
   * prompt would be due earlier than the prompt that computes its prefix.
   */
  aloneMs(exit: number): number {
    return this.#aloneSetupMs(exit) + this.stepsLeft(exit, 0.5) * this.stepMs(exit);
  }

  #aloneSetupMs(exit: number): number {
    return this.#advanceMs(exit, this.request.frontier);
  }

  /**
   * The floor: the exit that bounds the answer. It is the cheapest exit that is in time with the stated probability, or the
   * one most likely to be in time where none is.
   */
  get floor(): number {
    return (this.#floor ??= this.#floorOf());
  }

  /**
   * Mean decode steps left on the path of an exit: `deep` at the exit, until it is decided again, and `rest` at the floor.
   * Steps count as far as they fit before the request's own deadline.
   */
  path(exit: number): Path {
    return (this.#paths[exit] ??= this.#pathOf(exit));
  }

  /** Mean decode steps left on the path of an exit. */
  meanSteps(exit: number): number {
    const { deep, rest } = this.path(exit);
    return deep + rest;
  }

  /**
   * Probability that the request ends in time on the path of an exit.
   * @param slackMs time left beyond the mean path; negative where not even that fits
   */
  pathProbability(exit: number, slackMs: number): number {
    const { floor } = this;
    const { deep, rest, commit } = this.path(exit);
    const deepMs = this.#tokenMs(exit);
    if (commit === Infinity) return this.probabilityWithin(exit, deep + slackMs / deepMs);
    const beyondMs = slackMs + rest * this.#tokenMs(floor);
    if (beyondMs < 0) return this.probabilityWithin(exit, commit + beyondMs / deepMs);
    const within = this.probabilityWithin(exit, commit);
    const before = 1 - this.probabilityWithin(floor, commit);
    const later = 1 - this.probabilityWithin(floor, commit + beyondMs / this.#tokenMs(floor));
    return within + (1 - within) * (before <= 0 ? 1 : 1 - later / before);
  }

  /** Value of the path of an exit: an answer in time, by the operator's weight of attainment, and its quality. */
  pathValue(exit: number, slackMs: number): number {
    const { attainmentWeight } = this.#moment.policy;
    const { deep, rest } = this.path(exit);
    const quality = deep * this.#quality(exit) + rest * this.#quality(this.floor);
    const worth = attainmentWeight + ((1 - attainmentWeight) * quality) / Math.max(1e-9, deep + rest);
    return this.pathProbability(exit, slackMs) * worth;
  }

  /**
   * Whether the budget can still be met at the median length: by an idle machine, or under congestion, at the observed TPOT.
   * A request that is urgent but hopeless in company would only make others late.
   */
  get isReachable(): boolean {
    const { now, isCongested, model } = this.#moment;
    const { deadlines, minExit } = this;
    if (!this.hasDeadline) return false;
    if (deadlines.end === Infinity && this.#isFirstTokenDue) return now + this.#firstTokenMs <= deadlines.firstToken;
    const stepMs = Math.max(this.stepMs(minExit), isCongested ? model.drift.tpotMs : 0);
    return now + this.#aloneSetupMs(minExit) + this.stepsLeft(minExit, 0.5) * stepMs <= deadlines.end;
  }

  /** Instant by which the request is to be served: its deadline while it can be met, else its virtual deadline. */
  get dueAt(): number {
    return (this.#dueAt ??= this.#serviceDeadline());
  }

  #serviceDeadline(): number {
    const { request, deadlines, maxExit } = this;
    const moment = this.#moment;
    const { firstToken, end, tpotMs } = deadlines;
    if (!this.isReachable) return this.#virtualDeadline(this.aloneMs(maxExit));
    // The first token is due before the answer. A first token that is late is no deadline.
    const isFirstDue = this.#isFirstTokenDue && moment.now + this.#firstTokenMs <= firstToken;
    const due = Math.min(end, isFirstDue ? firstToken : Infinity);
    if (due !== Infinity) return due;
    // A budget of TPOT alone is never late: the request takes its turn as if that TPOT gave its deadline.
    if (tpotMs === Infinity) return this.#virtualDeadline(this.aloneMs(maxExit));
    return request.arrivedAt + tpotMs * (request.generated + this.stepsLeft(maxExit, 0.9));
  }

  get #isFirstTokenDue(): boolean {
    return this.deadlines.firstToken !== Infinity && this.request.firstTokenAt === null;
  }

  /** Milliseconds until the first token at the shallowest exit, alone on the machine. */
  get #firstTokenMs(): number {
    return this.#aloneSetupMs(this.minExit) + this.stepMs(this.minExit);
  }

  /** Milliseconds of a decode step at an exit, alone on the machine. */
  stepMs(exit: number): number {
    return oneRowStepMs(this.#moment.model, exit, this.meanContext);
  }

  #quality(exit: number): number {
    return this.request.quality?.[exit] ?? at(this.#moment.model.shape.exits, exit).quality;
  }

  #tokenMs(exit: number, rows = 1): number {
    return tokenMs(at(this.#moment.costs, exit), rows);
  }

  /** All of its work, whatever is done of it, so that the deadline of shedding by depth stays where it is; ms. */
  #wholeMs(): number {
    const { model, policy } = this.#moment;
    const { promptLength, generated } = this.request;
    const prompt = promptMs(model, this.maxExit, promptLength, plannedChunk(policy));
    return prompt + (generated + this.stepsLeft(this.maxExit, 0.5)) * this.stepMs(this.maxExit);
  }

  #virtualDeadline(aloneMs: number): number {
    return virtualDeadline(this.request.arrivedAt, aloneMs, this.#moment.policy);
  }

  #floorOf(): number {
    const { minExit, deadlines } = this;
    const { now, inflation, policy } = this.#moment;
    // No answer gets deeper mid-stream: the catch-up, and then each step, would delay all rows.
    const maxExit = this.isPrefilling ? this.maxExit : Math.max(minExit, Math.min(this.currentExit, this.maxExit));
    const openMs = (deadlines.end - now) / inflation;
    let [cheapest, leastMs] = [-1, Infinity];
    let [likeliest, mostLikely] = [minExit, -1];
    for (let exit = minExit; exit <= maxExit; exit += 1) {
      const setup = this.setupMs(exit);
      const inTime = openMs === Infinity ? 1 : this.probabilityWithin(exit, (openMs - setup) / this.#tokenMs(exit));
      if (inTime > mostLikely + 1e-6) [mostLikely, likeliest] = [inTime, exit];
      const ms = setup + this.meanStepsLeft(exit) * this.#tokenMs(exit, SHARED_ROWS);
      if (inTime >= policy.floorConfidence && ms < leastMs) [leastMs, cheapest] = [ms, exit];
    }
    return cheapest < 0 ? likeliest : cheapest;
  }

  #pathOf(exit: number): Path {
    const { floor, request, deadlines } = this;
    const moment = this.#moment;
    const openMs = (deadlines.end - moment.now) / moment.inflation - this.setupMs(exit);
    const fitting = (ms: number, at: number): number => (ms === Infinity ? ms : Math.max(1, ms / this.#tokenMs(at)));
    if (request.isExactLength || exit === floor) {
      return { deep: this.meanStepsLeft(exit, fitting(openMs, exit)), rest: 0, commit: Infinity };
    }
    const left = request.maxTokens - request.generated;
    const commit = Math.min(moment.policy.commitTokens, left, fitting(openMs, exit));
    const deep = this.meanStepsLeft(exit, commit);
    const longer = 1 - this.probabilityWithin(exit, commit);
    const most = fitting(openMs - commit * this.#tokenMs(exit), floor);
    return { deep, rest: longer * this.meanStepsLeft(floor, most, commit), commit };
  }
}

/** The distributions of a request's length, by exit; empty where the answer runs to maxTokens. */
export function lengthsOf(
  { isExactLength, lengthGroup }: RequestView,
  lengths: OutputLengths,
): readonly LengthDistribution[] {
  return isExactLength ? [] : lengths.of(lengthGroup);
}

/**
 * When a request without a budget, or past it, is due. Work of `aloneMs` on an idle machine may take 1/share of it, so the
 * request gets its share of the machine and never starves.
 */
export function virtualDeadline(arrivedAt: number, aloneMs: number, { noBudgetShare }: Policy): number {
  return arrivedAt + aloneMs / noBudgetShare;
}

/** Whether a budget states anything at all. */
export function hasBudget(budget: Budget | null): budget is Budget {
  return budget !== null && (budget.totalMs !== null || budget.ttftMs !== null || budget.tpotMs !== null);
}

/** Whether a total budget is over. */
export function isPastBudget(
  { budget, arrivedAt }: Pick<RequestView, 'budget' | 'arrivedAt'>,
  now: number,
  policy: Policy,
): boolean {
  return deadlinesOf(arrivedAt, budget, policy).end < now;
}

/** The request's overhead outside the engine is taken off. */
export function deadlinesOf(arrivedAt: number, budget: Budget | null, { requestOverheadMs }: Policy): Deadlines {
  const from = arrivedAt - requestOverheadMs;
  return {
    firstToken: from + (budget?.ttftMs ?? Infinity),
    end: from + (budget?.totalMs ?? Infinity),
    tpotMs: budget?.tpotMs ?? Infinity,
  };
}

/** An answer as its client sees it: instants in ms. */
export interface Finish {
  readonly arrivedAt: number;
  readonly firstTokenAt: number;
  readonly endedAt: number;
  readonly tokens: number;
}

/** Whether an answer came within all that its budget states. */
export function isWithin(budget: Budget | null, { arrivedAt, firstTokenAt, endedAt, tokens }: Finish): boolean {
  const within = (ms: number, limit: number | null | undefined): boolean => limit == null || ms <= limit;
  const tpot = tokens < 2 ? 0 : (endedAt - firstTokenAt) / (tokens - 1);
  return (
    within(endedAt - arrivedAt, budget?.totalMs) &&
    within(firstTokenAt - arrivedAt, budget?.ttftMs) &&
    within(tpot, budget?.tpotMs)
  );
}
