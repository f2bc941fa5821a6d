/**
 * The router: everything that a scheduler asks it, in the order of a step. Engine and simulator drive the same one.
 *
 * - Arrivals: `admit` gives service class, exit and prediction, or a rejection with the least budget. `enqueued` learns
 *   the arrival rates of admitted requests.
 * - Each step: `order` gives the order of service. Then `planStep` names new exits and the sequences that skip the step.
 *   Then `choosePrefill` names prompts and their positions. Before the step `isOverdue` names requests whose
 *   deadline it would pass. After the step `observeStep` learns the drift of the costs.
 * - End: `observeEnd` learns output lengths, the safety margin and the bounds of predictions.
 *
 * No clock, no I/O, no randomness.
 */
import { decayWhileIdle, observeStep } from '../cost/drift.js';
import { advanceWork, frontierAt } from '../cost/frontier.js';
import { type CostModel, type DepthShape, type Work, at, costModel, exitIndex, predictMs } from '../cost/model.js';
import type { CostTable } from '../cost/table.js';
import { admitAll, withArrival } from './admission.js';
import { type Allocation, allocateDepth } from './depth.js';
import { Arrivals } from './estimators/arrivals.js';
import { type Offsets, observeBounds } from './estimators/latency.js';
import { type LengthPrior, OutputLengths } from './estimators/output-length.js';
import { initialMargin, observeGuarantee } from './estimators/safety-margin.js';
import { PLANNED_WAITING, PlanningState } from './planning-state.js';
import type { Policy } from './policy.js';
import { choosePrefill } from './prefill.js';
import { order } from './queue.js';
import { isWithin } from './request.js';
import { predictedWaitMs } from './wait.js';
import type { Admission, AnswerEnd, DepthPlan, EngineState, Landing, PrefillChunk, RequestView } from './types.js';

export { type LengthPrior, lengthPriorOf, priorFault } from './estimators/output-length.js';
export { chunkSizes, defaultPolicy, type Policy, SPARE_SLOTS } from './policy.js';
export { hasBudget, isPastBudget, isWithin } from './request.js';
export { advanceWork, frontierAt } from '../cost/frontier.js';
export type * from './types.js';

/** The facts that decide whether a held plan still fits: building a whole state takes a tenth of planning. */
export interface StepSummary {
  readonly now: number;
  readonly liveIds: readonly string[];
  /** Live sequences whose prompts lack more than the last position. */
  readonly promptIds: ReadonlySet<string>;
  readonly waiting: number;
  readonly hasBudgets: boolean;
}

/** A plan holds for one step, and for one more with each so many requests: planning grows faster than a step does. */
const REQUESTS_PER_STEP = 24;

interface HeldPlan {
  readonly allocation: Allocation;
  readonly paused: readonly string[];
  readonly known: ReadonlySet<string>;
  stepsLeft: number;
}

export class Router {
  readonly #policy: Policy;
  readonly #lengths: OutputLengths;
  #costs: CostModel;
  #arrivals = Arrivals.none;
  #margin = initialMargin;
  /** Bounds of totals, with exact and with estimated lengths. */
  #exactOffsets: Offsets = { low: -0.2, high: 0.2 };
  #estimatedOffsets: Offsets = { low: 0, high: 0 };
  #busyAt: number | null = null;
  #held: HeldPlan | null = null;
  /** Requests of the last order, and whether they were late; starts of others since a late one began. */
  #waited: ReadonlyMap<string, boolean> = new Map();
  #startsSinceLate = 0;
  /** When the share of late prompts is due again. */
  #shareDueAt = -Infinity;

  /** @param slowdown how many times slower than the table the machine is at start */
  constructor(
    readonly shape: DepthShape,
    table: CostTable,
    policy: Policy,
    lengthPrior: LengthPrior | null = null,
    slowdown = 1,
  ) {
    this.#policy = policy;
    this.#costs = costModel(table, shape, slowdown);
    this.#lengths = new OutputLengths(shape.exits.length, lengthPrior);
  }

  admit(arrived: readonly RequestView[], state: EngineState): Admission[] {
    if (state.live.length === 0 && state.waiting.length === 0) {
      this.#costs = decayWhileIdle(this.#costs, state.now - (this.#busyAt ?? state.now));
      this.#busyAt = state.now;
    }
    return admitAll(arrived, state, {
      ...this.#planning(),
      arrivals: this.#arrivals,
      margin: this.#margin,
      offsets: (isExact) => (isExact ? this.#exactOffsets : this.#estimatedOffsets),
    });
  }

  /** Milliseconds until a request that would arrive now has its first token, with every request at its shallowest exit. */
  predictedWaitMs(state: EngineState): number {
    return predictedWaitMs(new PlanningState(state, this.#planning(), Infinity));
  }

  /** Learns of a request that was admitted and has its place in the queue. */
  enqueued(request: RequestView, now: number): void {
    this.#arrivals = withArrival(this.#arrivals, request, this.#planning(), now);
  }

  /** The waiting requests in order of service. */
  order(state: EngineState): RequestView[] {
    for (const { id } of state.live) {
      const wasLate = this.#waited.get(id);
      if (wasLate !== undefined) this.#startsSinceLate = wasLate ? 0 : this.#startsSinceLate + 1;
    }
    const { requests, lateIds } = order(state, this.#planning(), this.#startsSinceLate);
    this.#waited = new Map(requests.map(({ id }) => [id, lateIds.has(id)]));
    return requests;
  }

  /** Depth and pauses of the next step. Without budgets every sequence goes as deep as it may. */
  planStep(summary: StepSummary, state: () => EngineState): DepthPlan {
    this.#busyAt = summary.now;
    if (!summary.hasBudgets && !this.#policy.shedDepth) {
      this.#held = null;
      return { exits: state().live.map(({ id, maxExit }) => ({ id, exit: maxExit })), paused: [] };
    }
    if (this.#held !== null && this.#held.stepsLeft > 0 && this.#isKnown(summary.promptIds)) {
      this.#held.stepsLeft -= 1;
      return { exits: [], paused: this.#held.paused };
    }
    const allocation = this.#allocate(state());
    const paused = allocation.paused.map(({ request }) => request.id);
    const exits = allocation.state.requests.flatMap((planned) => {
      const exit = allocation.feasibility.exitOf(planned);
      if (planned.live === null || exit === planned.currentExit) return [];
      return { id: planned.request.id, exit: at(this.shape.exits, exit).layer };
    });
    const requests = summary.liveIds.length + Math.min(PLANNED_WAITING, summary.waiting);
    const stepsLeft = Math.floor(requests / REQUESTS_PER_STEP);
    this.#held = { allocation, paused, known: new Set(summary.liveIds), stepsLeft };
    return { exits, paused };
  }

  /** @param paused ids of the sequences that skip the step; `state` is asked only where no plan is held */
  choosePrefill(summary: StepSummary, paused: ReadonlySet<string>, state: () => EngineState): PrefillChunk[] {
    const held = this.#isKnown(summary.promptIds) ? this.#held : null;
    const allocation = held?.allocation ?? this.#allocate(state());
    // A sequence that lost its slot, and a prompt that is done since the plan was made, are passed over.
    const holders = new Set(summary.liveIds);
    const isShareDue = summary.now >= this.#shareDueAt;
    const chunks = choosePrefill(allocation, paused, isShareDue, ({ isPrefilling, request }) =>
      (isPrefilling ? summary.promptIds : holders).has(request.id),
    );
    const shareMs = chunks.reduce((sum, chunk) => sum + chunk.shareMs, 0);
    if (shareMs > 0) this.#shareDueAt = summary.now + shareMs / this.#policy.noBudgetShare;
    return chunks;
  }

  /** Whether a step passes the deadline of a request that is cut there. The caller excludes answers under a grammar. */
  isOverdue(request: RequestView, now: number, work: Work): boolean {
    const { budget, arrivedAt, isExactLength } = request;
    if (budget?.totalMs == null || budget.onMiss === 'continue') return false;
    if (budget.onMiss !== 'truncate' && isExactLength) return false;
    return this.predictMs(work) > arrivedAt + budget.totalMs - this.#policy.requestOverheadMs - now;
  }

  /** When an answer ends early; null where its budget asks for no landing. @param stepMs the next step, predicted */
  landing({ budget, arrivedAt }: RequestView, stepMs: number): Landing | null {
    if (budget === null || budget.totalMs === null || (budget.onMiss !== 'land' && budget.onMiss !== 'reject'))
      return null;
    return {
      opensAt: arrivedAt + budget.totalMs / 2,
      endsAt: arrivedAt + budget.totalMs - this.#policy.requestOverheadMs,
      tokenMs: Math.max(stepMs, this.#costs.drift.tpotMs),
    };
  }

  /** The work that advances a sequence to a position at an exit (index). */
  advanceWork(frontier: readonly number[], exit: number, end: number): Work['prefill'] {
    const start = frontierAt(frontier, exit, this.#costs);
    return advanceWork(frontier, exit, end, this.#costs, Math.max(1, end - start));
  }

  /** Learns from a finished step. @param isContended whether another sequence waited for it */
  observeStep(work: Work, actualMs: number, isContended = false): void {
    this.#costs = observeStep(this.#costs, work, actualMs, isContended);
  }

  predictMs(work: Work): number {
    return predictMs(this.#costs, work);
  }

  /** How many times slower the machine is than at the measurement of the table. */
  get slowdown(): number {
    return this.#costs.drift.slowdown;
  }

  /** Learns from an answer that ended. */
  observeEnd(request: RequestView, admission: Admission | null, end: AnswerEnd): void {
    this.#observeLength(request, end);
    if (admission?.kind !== 'admit' || end.reason === 'cancelled') return;
    const { requestOverheadMs } = this.#policy;
    const { arrivedAt, budget } = request;
    const isWhole = end.reason === 'ended';
    const tokens = end.path.reduce((sum, part) => sum + part.tokens, 0);
    const endedAt = end.endedAt + requestOverheadMs;
    const firstTokenAt = (end.firstTokenAt ?? end.endedAt) + requestOverheadMs;
    const finish = { arrivedAt, firstTokenAt, endedAt, tokens };
    if (admission.serviceClass === 'guaranteed') {
      this.#margin = observeGuarantee(this.#margin, isWhole && isWithin(budget, finish), end.endedAt);
    }
    if (!isWhole) return;
    const { p10Ms, p90Ms } = admission.prediction;
    const offsets = request.isExactLength ? this.#exactOffsets : this.#estimatedOffsets;
    const next = observeBounds(offsets, p10Ms, p90Ms, endedAt - arrivedAt);
    if (request.isExactLength) this.#exactOffsets = next;
    else this.#estimatedOffsets = next;
  }

  /** An answer that was cut, or ran to its limit, is censored. */
  #observeLength({ isExactLength, lengthGroup, maxTokens }: RequestView, { path, reason }: AnswerEnd): void {
    if (isExactLength) return;
    const tokens = path.reduce((sum, part) => sum + part.tokens, 0);
    this.#lengths.observe(
      lengthGroup,
      path.map(({ exit, tokens: count }) => ({ exit: exitIndex(this.shape, exit), tokens: count })),
      reason === 'ended' && tokens < maxTokens,
    );
  }

  #planning() {
    return { model: this.#costs, policy: this.#policy, lengths: this.#lengths };
  }

  #allocate(state: EngineState): Allocation {
    return allocateDepth(new PlanningState(state, this.#planning()), this.#arrivals);
  }

  /** Whether the held plan counts on all of these. */
  #isKnown(ids: ReadonlySet<string>): boolean {
    for (const id of ids) if (this.#held?.known.has(id) !== true) return false;
    return true;
  }
}
