/**
 * The router: everything that a scheduler asks it, in the order of a step. Engine and simulator drive the same one.
 *
 * - Arrivals: `admit` gives service class, exit and prediction, or a rejection with the least budget. `enqueued` learns
 *   the arrival rate of admitted requests.
 * - Each step: `order` gives the order of service. `planStep` gives exits, pauses and prefill. `landing` and `isOverdue`
 *   tell the times of an early end and of a cut. Afterwards `observeStep` learns the drift of the costs.
 * - End: `observeEnd` learns output lengths and the safety margin.
 *
 * No clock, no I/O, no randomness.
 */
import { decayWhileIdle, observeStep } from '../cost/drift.js';
import { advanceWork, frontierAt } from '../cost/frontier.js';
import { type CostModel, type DepthShape, type Work, at, costModel, exitIndex, predictMs } from '../cost/model.js';
import { promptMs } from '../cost/step-costs.js';
import type { CostTable } from '../cost/table.js';
import { admitAll } from './admission.js';
import { Arrivals } from './arrivals.js';
import { type LengthPrior, OutputLengths } from './output-length.js';
import { type Exits, chooseExits } from './plan.js';
import { PlanningState } from './planning-state.js';
import { type Policy, plannedChunk } from './policy.js';
import { choosePrefill } from './prefill.js';
import { order, served } from './queue.js';
import { deepestUnder } from './load-depth.js';
import { type PlannedRequest, type Planning, isWithin } from './request.js';
import { initialMargin, observeGuarantee } from './safety-margin.js';
import type { Admission, AnswerEnd, EngineState, Landing, RequestView, StepPlan } from './types.js';
import { predictedWaitMs } from './wait.js';
import { type Kept, Worth } from './worth.js';

export { type LengthPrior, lengthPriorOf, priorFault } from './output-length.js';
export { chunkSizes, defaultPolicy, type Policy } from './policy.js';
export { hasBudget, isWithin } from './request.js';
export { advanceWork, frontierAt } from '../cost/frontier.js';
export type { Kept } from './worth.js';
export type * from './types.js';

/** Measurements of the model folder; null without one. */
export interface Priors {
  readonly lengths: LengthPrior | null;
  readonly kept: Kept | null;
}

/** The plan in force. */
interface HeldPlan {
  readonly at: number;
  /** Milliseconds until each next token, the prompts that are to be expected included. */
  readonly tokenMs: number;
}

export class Router {
  readonly #policy: Policy;
  readonly #lengths: OutputLengths;
  readonly #worth: Worth;
  #costs: CostModel;
  #arrivals = Arrivals.none;
  #margin = initialMargin;
  #busyAt: number | null = null;
  #held: HeldPlan | null = null;
  /** Waiting requests of the last order, and which had no deadline to meet; starts of others since one of these began. */
  #waited: ReadonlyMap<string, boolean> = new Map();
  #startsSinceOther = 0;
  /** When a prompt without a deadline is due beside others with one; null while there is none of these. */
  #shareDueAt: number | null = null;

  /** @param slowdown how many times slower than the table the machine is at start */
  constructor(
    readonly shape: DepthShape,
    table: CostTable,
    policy: Policy,
    { lengths, kept }: Priors = { lengths: null, kept: null },
    slowdown = 1,
  ) {
    this.#policy = policy;
    this.#costs = costModel(table, shape, slowdown);
    this.#lengths = new OutputLengths(shape.exits.length, lengths);
    this.#worth = new Worth(shape, kept);
  }

  admit(arrived: readonly RequestView[], state: EngineState): Admission[] {
    if (state.live.length === 0 && state.waiting.length === 0) {
      this.#costs = decayWhileIdle(this.#costs, state.now - (this.#busyAt ?? state.now));
      this.#busyAt = state.now;
    }
    return admitAll(arrived, state, { ...this.#planning(), arrivals: this.#arrivals, margin: this.#margin });
  }

  /** Milliseconds until a request that would arrive now has its first token, with every prompt at its shallowest exit. */
  predictedWaitMs(state: EngineState): number {
    return predictedWaitMs(new PlanningState(state, this.#planning(), Infinity));
  }

  /** Learns of a request that was admitted and has its place in the queue. */
  enqueued({ budget, promptLength, expectedFrontier }: RequestView, now: number): void {
    this.#held = null;
    if (budget?.totalMs == null) return;
    this.#arrivals = this.#arrivals.with(now, promptLength - (expectedFrontier[0] ?? 0), budget.totalMs);
  }

  /** The waiting requests in order of service. */
  order(state: EngineState): RequestView[] {
    for (const { id } of state.live) {
      const wasOther = this.#waited.get(id);
      if (wasOther !== undefined) this.#startsSinceOther = wasOther ? 0 : this.#startsSinceOther + 1;
    }
    const isOtherDue = this.#startsSinceOther + 1 >= 1 / this.#policy.noBudgetShare;
    const { requests, otherIds } = order(state, this.#planning(), isOtherDue);
    this.#waited = new Map(requests.map(({ id }) => [id, otherIds.has(id)]));
    return requests;
  }

  /** Exits, pauses and prefill of the next step. */
  planStep(engine: EngineState): StepPlan {
    this.#busyAt = engine.now;
    const state = new PlanningState(engine, this.#planning());
    const live = state.requests.filter((each) => each.live !== null);
    const isFresh = this.#held !== null && engine.now - this.#held.at < this.#policy.planMs;
    const exits: Exits = isFresh && !live.some(({ isBeginning }) => isBeginning) ? new Map() : this.#plan(state);
    const exitOf = (each: PlannedRequest): number => exits.get(each) ?? each.currentExit;
    const paused = new Set(
      isTight(state, live, exitOf) ? live.filter((each) => isPaused(each, state, exitOf(each))) : [],
    );
    const isShareDue = engine.now >= this.#shareDue(state);
    const chunks = choosePrefill(state, { exitOf, paused }, isShareDue);
    this.#countShare(state, chunks);
    return {
      exits: live.flatMap((each) => {
        const { layer } = at(this.shape.exits, exitOf(each));
        return layer === each.request.exit ? [] : [{ id: each.request.id, exit: layer }];
      }),
      paused: [...paused].map(({ request }) => request.id),
      chunks,
    };
  }

  /** When an answer ends early, by the last plan; null where its budget or its text allows no landing. */
  landing({ budget, arrivedAt, lands }: RequestView): Landing | null {
    if (!lands || budget?.totalMs == null) return null;
    const tokenMs = this.#held?.tokenMs ?? 0;
    const endsAt = arrivedAt + budget.totalMs - this.#policy.requestOverheadMs;
    return { opensAt: arrivedAt + this.#policy.landingOpens * (endsAt - arrivedAt), endsAt, tokenMs };
  }

  /** Whether an answer that is cut at its deadline would pass it in a step. */
  isOverdue({ budget, arrivedAt, lands }: RequestView, now: number, work: Work): boolean {
    if (budget?.totalMs == null || (budget.onMiss !== 'truncate' && !lands)) return false;
    return this.predictMs(work) > arrivedAt + budget.totalMs - this.#policy.requestOverheadMs - now;
  }

  /** The work that advances a sequence to a position at an exit (index). */
  advanceWork(frontier: readonly number[], exit: number, end: number): Work['prefill'] {
    const start = frontierAt(frontier, exit, this.#costs);
    return advanceWork(frontier, exit, end, this.#costs, Math.max(1, end - start));
  }

  /** Learns from a finished step. */
  observeStep(work: Work, actualMs: number): void {
    this.#costs = observeStep(this.#costs, work, actualMs);
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
    const { arrivedAt, budget, isExactLength, lengthGroup, maxTokens } = request;
    const tokens = end.path.reduce((sum, part) => sum + part.tokens, 0);
    const last = end.path.at(-1);
    if (!isExactLength && last !== undefined) {
      const hasEnded = end.reason === 'ended' && tokens < maxTokens;
      this.#lengths.observe(lengthGroup.kind, exitIndex(this.shape, last.exit), tokens, hasEnded);
    }
    if (admission?.kind !== 'admit' || admission.serviceClass !== 'guaranteed' || end.reason === 'cancelled') return;
    const { requestOverheadMs } = this.#policy;
    const endedAt = end.endedAt + requestOverheadMs;
    const firstTokenAt = (end.firstTokenAt ?? end.endedAt) + requestOverheadMs;
    // An answer that is cut had no time for its sentence.
    const isKept = end.reason !== 'deadline' && isWithin(budget, { arrivedAt, firstTokenAt, endedAt, tokens });
    this.#margin = observeGuarantee(this.#margin, isKept, end.endedAt);
  }

  #planning(): Planning {
    return { model: this.#costs, policy: this.#policy, lengths: this.#lengths, worth: this.#worth };
  }

  #plan(state: PlanningState): Exits {
    const exits = chooseExits(state, deepestUnder(state, this.#arrivals.expected(state.now)));
    this.#held = { at: state.now, tokenMs: tokenMsOf(state, exits) };
    return exits;
  }

  /** The share of prompts without a deadline accrues from the first deadline beside them. */
  #shareDue(state: PlanningState): number {
    if (!state.hasDeadlines) this.#shareDueAt = null;
    const chunk = plannedChunk(this.#policy);
    const chunkMs = promptMs(this.#costs, this.shape.exits.length - 1, chunk, chunk);
    return (this.#shareDueAt ??= state.now + chunkMs / this.#policy.noBudgetShare);
  }

  /** A prompt without a deadline that went before others has taken its share for a while. */
  #countShare(state: PlanningState, chunks: StepPlan['chunks']): void {
    const [first] = chunks;
    const other = state.requests.find(({ request }) => request.id === first?.id);
    if (first === undefined || other === undefined || other.hasDeadline || !state.hasDeadlines) return;
    const prefill = this.advanceWork(other.request.frontier, other.currentExit, first.positions);
    this.#shareDueAt = state.now + this.predictMs({ decode: null, prefill }) / this.#policy.noBudgetShare;
  }
}

/** Whether a deadline has no slack for all rows: its answer would end early, or late, beside them. */
function isTight(
  state: PlanningState,
  live: readonly PlannedRequest[],
  exitOf: (each: PlannedRequest) => number,
): boolean {
  if (!live.some(({ hasDeadline }) => hasDeadline) || live.every(({ hasDeadline }) => hasDeadline)) return false;
  const stepMs = state.stepOf(live.map(exitOf)) * (1 + state.policy.margin);
  let setupMs = 0;
  return served(state.requests).due.some((each) => {
    if (each.isPrefilling) setupMs += each.setupMs(exitOf(each));
    const { deadlines, request } = each;
    const firstAt = state.now + setupMs + stepMs;
    if (request.firstTokenAt === null && firstAt > deadlines.firstToken) return true;
    return stepMs > deadlines.tpotMs || firstAt + each.meanLeft(exitOf(each)) * stepMs > deadlines.end;
  });
}

/** Whether a row without a deadline skips a step, since it has had its share. */
function isPaused(each: PlannedRequest, state: PlanningState, exit: number): boolean {
  if (each.hasDeadline || each.isPrefilling) return false;
  const idleMs = state.now - (each.live?.lastTokenAt ?? each.request.arrivedAt);
  return idleMs < state.stepOf([exit]) * (1 / state.policy.noBudgetShare - 1);
}

/** Milliseconds until each next token of a row, while waiting prompts prefill beside it within the tokens of a sentence. */
function tokenMsOf(state: PlanningState, exits: Exits): number {
  const live = state.requests.filter((each) => each.live !== null);
  const exitOf = (each: PlannedRequest): number => exits.get(each) ?? each.currentExit;
  const rows = live.filter((each) => !each.isPrefilling || each.isReachable);
  const stepMs = state.stepOf(rows.map(exitOf)) * (1 + state.policy.margin);
  const setupMs = state.requests.reduce(
    (sum, each) =>
      sum + (each.isPrefilling && (each.isReachable || !each.hasDeadline) ? each.setupMs(exitOf(each)) : 0),
    0,
  );
  // Chunks of prompts take at most their share of each step.
  return stepMs + Math.min(setupMs / state.sentenceTokens, state.policy.maxStallMs);
}
