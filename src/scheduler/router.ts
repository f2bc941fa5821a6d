/**
 * The router: all decisions of a scheduler. `step` makes those of one step, in their order, on the engine or its
 * simulation.
 *
 * It learns the drift of the costs (`observeStep`), and of each answer that ended its length and whether its promise was
 * kept (`observeEnd`). No clock, no I/O, no randomness.
 */
import { advanceWork, frontierAt } from '../cost/frontier.js';
import {
  type CostModel,
  type DepthShape,
  type ExitIndex,
  type Work,
  at,
  costModel,
  decayWhileIdle,
  exitIndex,
  observeStep,
  predictMs,
} from '../cost/model.js';
import type { CostTable } from '../cost/table.js';
import { isWithin, timesOf } from '../util/within-budget.js';
import { admitAll, decidedTogether } from './admission.js';
import { type Kept, type LengthPrior, OutputLengths, Worth } from './output-length.js';
import { type Arrival, deepestUnder, expectedAt } from './depth-bound.js';
import { chooseExits, predictedWaitMs } from './exit-choice.js';
import type { Policy } from './policy.js';
import { type SafetyMargin, observePromise } from './promise.js';
import { cutAt } from '../protocol/early-end.js';
import type { PlannedRequest, Planning } from './planned-request.js';
import { Reservations } from './budget-quotes.js';
import { PlanningState, served } from './snapshot.js';
import { choosePrefill, isTight, rowsWithShare, shareDueAt, tokenMsOf } from './prefill-choice.js';
import type { Admission, AnswerEnd, EngineState, Landing, RequestView, Service, StepHost, StepPlan } from './types.js';

export type { Kept, LengthPrior } from './output-length.js';
export { chunkSizes, defaultPolicy, type Policy } from './policy.js';
export { advanceWork, frontierAt } from '../cost/frontier.js';
export type * from './types.js';

/** Measurements of the model folder; null without one. */
export interface Priors {
  readonly lengths: LengthPrior | null;
  readonly kept: Kept | null;
}

export class Router {
  readonly #policy: Policy;
  readonly #worth: Worth;
  // Learned:
  readonly #lengths: OutputLengths;
  #costs: CostModel;
  /** In order. */
  #arrivals: readonly Arrival[] = [];
  readonly #reservations: Reservations;
  #margin: SafetyMargin;
  /** Instant of the last step or arrival. */
  #busyAt: number | null = null;
  /** When a prompt without a deadline is due beside others with one; null while there is none of these. */
  #shareDueAt: number | null = null;
  /** Milliseconds until each next token by the last plan, the prompts that are to be expected included. */
  #tokenMs = 0;

  /** @param slowdown how many times slower than the table the machine is at start */
  constructor(
    readonly shape: DepthShape,
    table: CostTable,
    policy: Policy,
    { lengths, kept }: Priors = { lengths: null, kept: null },
    slowdown = 1,
  ) {
    this.#policy = policy;
    this.#reservations = new Reservations(policy);
    this.#costs = costModel(table, shape, slowdown);
    this.#lengths = new OutputLengths(shape.exits.length, lengths, policy);
    this.#worth = new Worth(shape, kept);
    this.#margin = { margin: policy.initialMargin, at: -Infinity };
  }

  /** Makes the decisions of one step, in order; the host puts each into force. */
  step(host: StepHost): void {
    for (let asked = host.arrivals(); asked.length > 0;) {
      const state = host.state();
      const { queued, next } = host.decide(this.admit(asked, state));
      for (const each of queued) this.#learnArrival(each, state.now);
      asked = next;
    }
    host.endDue();
    const before = host.state();
    host.start(this.service(before));
    const state = before.waiting.length > 0 ? host.state() : before;
    const plan = this.planStep(state);
    host.apply(plan.exits);
    const work = host.select(plan);
    const seenAt = this.#seenAt(state.now, work);
    const overdue = [...state.live, ...state.waiting].filter((each) => cutAt(each) < seenAt);
    if (overdue.length > 0) host.endOverdue(overdue.map(({ id }) => id));
  }

  /** A step in which nothing is to decide: no request arrives, waits or prefills, and none has a budget. */
  pass(now: number): void {
    this.#busyAt = now;
    this.#shareDueAt = null;
  }

  /** Admissions, or rejections with the least budget, of requests that arrived together. */
  admit(arrived: readonly RequestView[], state: EngineState): Admission[] {
    if (state.live.length === 0 && state.waiting.length === 0) {
      this.#costs = decayWhileIdle(this.#costs, state.now - (this.#busyAt ?? state.now));
      this.#busyAt = state.now;
    }
    const groups = decidedTogether(arrived);
    // A dry run neither takes nor leaves a reservation.
    const asking = groups.filter(([first]) => first?.isDryRun !== true);
    const retries = asking.filter((choices) => this.#reservations.take(choices));
    const admissions = admitAll(groups, state, {
      ...this.#planning(),
      ...{ arrivals: this.#arrivals, margin: this.#margin },
      reserved: this.#reservations.at(state.now),
      claimed: new Set(retries.flat().map(({ id }) => id)),
    });
    for (const choices of asking) {
      const admission = admissions[arrived.indexOf(at(choices, 0))];
      if (admission?.kind === 'reject' && admission.leastFeasibleMs !== null)
        this.#reservations.add(choices, admission.leastFeasibleMs, state.now);
    }
    return admissions;
  }

  /** Milliseconds until a request that would arrive now has its first token, with every prompt at its shallowest exit. */
  predictedWaitMs(state: EngineState): number {
    return predictedWaitMs(new PlanningState(state, this.#planning(), Infinity));
  }

  /** Promises go first. Other requests have their share of the slots; without one, the oldest of them goes before all. */
  service(engine: EngineState): Service {
    if (engine.waiting.length === 0) return { order: [], kept: 0 };
    const state = new PlanningState(engine, this.#planning(), Infinity);
    const { due, others } = served(state.requests);
    const waiting = [...due.filter(({ isPromised }) => isPromised), ...due, ...others].filter(
      ({ live }) => live === null,
    );
    const held = state.requests.filter(({ live, isPromised }) => live !== null && !isPromised).length;
    const oldest = others.find(({ live, isPromised }) => live === null && !isPromised);
    const lead = oldest !== undefined && held < state.keptSlots ? [oldest] : [];
    return { order: [...new Set([...lead, ...waiting])].map(({ request }) => request.id), kept: state.keptSlots };
  }

  /** Exits, pauses and prefill of the next step. */
  planStep(engine: EngineState): StepPlan {
    this.#busyAt = engine.now;
    const state = new PlanningState(engine, this.#planning());
    const live = state.requests.filter((each) => each.live !== null);
    // A prompt that has begun keeps its exit, unless another one begins: plays of promises take most of the planning time.
    const isBeginning = live.some(
      ({ isBeginning, request }) => isBeginning && (request.generated > 0 || (request.frontier[0] ?? 0) === 0),
    );
    const exits = isBeginning
      ? chooseExits(state, deepestUnder(state, expectedAt(this.#arrivals, state.now, this.#policy)))
      : new Map<PlannedRequest, ExitIndex>();
    this.#tokenMs = tokenMsOf(state, exits);
    const exitOf = (each: PlannedRequest): ExitIndex => exits.get(each) ?? each.currentExit;
    const isShort = isTight(state, exits);
    const paused = new Set(isShort ? rowsWithShare(state, exitOf) : []);
    const dueAt = shareDueAt(state, this.#shareDueAt, []);
    const chunks = choosePrefill(state, { exitOf, paused }, state.now >= (dueAt ?? Infinity), isShort);
    this.#shareDueAt = shareDueAt(state, dueAt, chunks);
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
    const endsAt = arrivedAt + budget.totalMs - this.#policy.requestOverheadMs;
    const opensAt = arrivedAt + this.#policy.landingOpens * (endsAt - arrivedAt);
    return { opensAt, endsAt, tokenMs: this.#tokenMs };
  }

  /** Whether an answer that is cut at its deadline would pass it in a step. */
  isOverdue(request: RequestView, now: number, work: Work): boolean {
    return cutAt(request) < this.#seenAt(now, work);
  }

  /** When clients have the tokens of a step. */
  #seenAt(now: number, work: Work): number {
    return now + this.predictMs(work) + this.#policy.requestOverheadMs;
  }

  /** The work that advances a sequence to a position at an exit. */
  advanceWork(frontier: readonly number[], exit: ExitIndex, end: number): Work['prefill'] {
    const start = frontierAt(frontier, exit, this.#costs);
    return advanceWork(frontier, exit, end, this.#costs, Math.max(1, end - start));
  }

  predictMs(work: Work): number {
    return predictMs(this.#costs, work);
  }

  /** How many times slower the machine is than at the measurement of the table. */
  get slowdown(): number {
    return this.#costs.drift.slowdown;
  }

  /** Learns from a finished step. */
  observeStep(work: Work, actualMs: number): void {
    this.#costs = observeStep(this.#costs, work, actualMs);
  }

  /** Learns from an admitted request whose answer ended. */
  observeEnd(request: RequestView, at: number, end: AnswerEnd): void {
    const { arrivedAt, budget, exit, generated: tokens, isExactLength, lengthGroup, maxTokens, serviceClass } = request;
    if (!isExactLength) {
      const hasEnded = end === 'ended' && tokens < maxTokens;
      this.#lengths.observe(lengthGroup.kind, exitIndex(this.shape, exit), tokens, hasEnded);
    }
    if (serviceClass !== 'guaranteed' || end === 'cancelled') return;
    const endedAt = at + this.#policy.requestOverheadMs;
    const firstTokenAt = (request.firstTokenAt ?? at) + this.#policy.requestOverheadMs;
    // An answer that is cut had no time for its sentence.
    const isKept = end !== 'deadline' && isWithin(timesOf({ arrivedAt, firstTokenAt, endedAt, tokens }), budget);
    this.#margin = observePromise(this.#margin, isKept, at, this.#policy);
  }

  #learnArrival({ budget, promptLength, expectedFrontier }: RequestView, now: number): void {
    if (budget?.totalMs == null) return;
    const positions = promptLength - (expectedFrontier[0] ?? 0);
    const arrival = { at: now, positions, budgetMs: budget.totalMs };
    this.#arrivals = [...this.#arrivals, arrival].slice(-this.#policy.mostArrivals);
  }

  #planning(): Planning {
    return { model: this.#costs, policy: this.#policy, lengths: this.#lengths, worth: this.#worth };
  }
}
