/**
 * The decisions of a scheduler: admissions, the order of service, exits, pauses and prefill. The planner keeps learnt
 * values and the few that one plan hands to the next; the functions that it calls are pure. Steps teach the drift of
 * the costs (`observeStep`). Answers that end teach lengths and the margin of promises (`observeEnd`).
 *
 * Must not know: slots, memory, how a decision comes into force.
 */
import {
  type CostModel,
  type DepthShape,
  type ExitIndex,
  type Work,
  costModel,
  decayWhileIdle,
  observeStep,
  predictMs,
} from './cost/model.js';
import type { CostTable } from './cost/table.js';
import { cutAt } from '../../protocol/early-end.js';
import { isKept, outcomeOf } from '../../protocol/outcome.js';
import { timesOf } from '../../protocol/within-budget.js';
import { admitAll } from './admission.js';
import { decidedTogether } from './arrivals.js';
import { type Arrival, depthBound, expectedAt, NO_VALUES } from './depth-bound.js';
import { chooseExits, predictedWaitMs } from './exit-choice.js';
import { SearchTime } from './least-budget.js';
import { type LengthPrior, OutputLengths } from './output-length.js';
import type { Estimates, PlannedRequest } from './planned-request.js';
import type { Policy } from './policy.js';
import { choosePrefill, isTight, rowsWithShare, shareDueAt, tokenMsOf } from './prefill-choice.js';
import { Refusals } from './refusals.js';
import { SafetyMargins } from './safety-margin.js';
import { SentenceLength } from './sentence-length.js';
import type { Sequence } from './sequence.js';
import type { StepResult } from './step-plan.js';
import { type Occupancy, type Proposal, Snapshot, edfOrder, sequenceOf } from './snapshot.js';
import type { Admission, AnswerEnd, LandingWindow, PrefillChunk } from './types.js';
import { type PartialValue, Utility } from './utility.js';

/** Measurements of the model folder; null without one. */
export interface Priors {
  readonly lengths: LengthPrior | null;
  readonly partialValue: PartialValue | null;
}

const NO_PRIORS: Priors = { lengths: null, partialValue: null };

/** Decisions for the running sequences. */
export interface Decisions {
  /** Exits that change; other sequences keep theirs. */
  readonly exits: ReadonlyMap<Sequence, ExitIndex>;
  /** Sequences that skip the decode of the step. */
  readonly paused: ReadonlySet<Sequence>;
  /** Chunks of prompts, in order of service. */
  readonly chunks: readonly PrefillChunk[];
}

/** The waiting sequences, as they get slots. */
export interface ServiceOrder {
  /** Requests without a token whose budgets have no time for a sentence any more. */
  readonly hopeless: readonly Sequence[];
  readonly order: readonly Sequence[];
  /** Number of best-effort sequences, oldest first, that a guaranteed one must not preempt. */
  readonly protectedRows: number;
}

export class Planner {
  readonly #policy: Policy;
  readonly #utility: Utility;
  // Learned:
  readonly #lengths: OutputLengths;
  readonly #sentences: SentenceLength;
  #costs: CostModel;
  /** In order. */
  #arrivals: readonly Arrival[] = [];
  #depthValues = NO_VALUES;
  readonly #margin: SafetyMargins;
  readonly #searchTime: SearchTime;
  readonly #refusals: Refusals;
  /** Instant of the last step or arrival. */
  #busyAt: number | null = null;
  /** When a prompt without a promise is due beside promises; null while there is none of these. */
  #shareDueAt: number | null = null;
  /** Milliseconds until each next token by the last plan, the prompts that are to be expected included. */
  #tokenMs = 0;

  /** @param slowdown how many times slower than the table the machine is at start */
  constructor(shape: DepthShape, table: CostTable, policy: Policy, priors: Priors = NO_PRIORS, slowdown = 1) {
    this.#policy = policy;
    this.#searchTime = new SearchTime(policy);
    this.#refusals = new Refusals(policy);
    this.#costs = costModel(table, shape, slowdown);
    this.#lengths = new OutputLengths(shape.exits.length, priors.lengths, policy);
    this.#sentences = new SentenceLength(policy);
    this.#utility = new Utility(shape, priors.partialValue);
    this.#margin = new SafetyMargins(policy);
  }

  /** The costs, with their drift. */
  get model(): CostModel {
    return this.#costs;
  }

  get tokenMs(): number {
    return this.#tokenMs;
  }

  /** A step in which nothing is to decide. */
  pass(now: number): void {
    this.#busyAt = now;
    this.#shareDueAt = null;
  }

  /** Admissions, or rejections with the least budget, of requests that arrived together. */
  admit(arrived: readonly Sequence[], engine: Occupancy): Admission[] {
    const { now } = engine;
    if (engine.live.length === 0 && engine.waiting.length === 0) {
      this.#costs = decayWhileIdle(this.#costs, now - (this.#busyAt ?? now));
      this.#busyAt = now;
    }
    return admitAll(decidedTogether(arrived), engine, {
      ...this.#estimates(),
      arrivals: this.#arrivals,
      depthValues: this.#depthValues,
      margins: this.#margin,
      searchTime: this.#searchTime.at(now),
      refusals: this.#refusals,
    });
  }

  /**
   * Milliseconds until a request that would arrive now has its first token, with every prompt at its shallowest exit.
   */
  predictedWaitMs(engine: Occupancy): number {
    return predictedWaitMs(new Snapshot(engine, this.#estimates(), Infinity));
  }

  /**
   * Promises go first. Other requests have their share of the slots; without one, the oldest of them goes before all.
   */
  serviceOrder(engine: Occupancy): ServiceOrder {
    const sequences = engine.waiting.map(sequenceOf);
    const mayBeHopeless = [...engine.live, ...sequences].some(({ lands, generated }) => lands && generated === 0);
    if (sequences.length === 0 && !mayBeHopeless) return { hopeless: [], order: [], protectedRows: 0 };
    const state = new Snapshot(engine, this.#estimates(), Infinity);
    const hopeless = hopelessOf(state);
    if (hopeless.length === 0) return { hopeless, ...orderOf(state) };
    const stays = (each: Sequence | Proposal): boolean => !hopeless.includes(sequenceOf(each));
    const rest = { ...engine, live: engine.live.filter(stays), waiting: engine.waiting.filter(stays) };
    return { hopeless, ...orderOf(new Snapshot(rest, this.#estimates(), Infinity)) };
  }

  /** Exits, pauses and prefill of the next step. */
  decide(engine: Occupancy): Decisions {
    this.#busyAt = engine.now;
    const state = new Snapshot(engine, this.#estimates());
    const live = state.requests.filter(({ isLive }) => isLive);
    // A prompt that has run a chunk keeps its exit, unless another one begins: forecasts of promises take most of the
    // planning time. A stored prefix is no chunk of its own.
    const isBeginning = live.some(({ isBeginning, sequence, frontiers }) => {
      return isBeginning && (sequence.generated > 0 || (frontiers[0] ?? 0) <= sequence.cachedTokens);
    });
    const exits = isBeginning ? chooseExits(state, this.#deepest(state)) : new Map<PlannedRequest, ExitIndex>();
    this.#tokenMs = tokenMsOf(state, exits);
    const exitOf = (each: PlannedRequest): ExitIndex => exits.get(each) ?? each.currentExit;
    const isShort = isTight(state, exits);
    const paused = new Set(isShort ? rowsWithShare(state, exitOf) : []);
    const dueAt = shareDueAt(state, this.#shareDueAt, []);
    const chunks = choosePrefill(state, { exitOf, paused }, state.now >= (dueAt ?? Infinity), isShort);
    this.#shareDueAt = shareDueAt(state, dueAt, chunks);
    const changed = live.filter((each) => exitOf(each) !== each.sequence.exit);
    return {
      exits: new Map(changed.map((each) => [each.sequence, exitOf(each)])),
      paused: new Set([...paused].map(({ sequence }) => sequence)),
      chunks,
    };
  }

  #deepest(state: Snapshot): ExitIndex {
    const expected = expectedAt(this.#arrivals, state.now, this.#policy);
    const { deepest, values } = depthBound(state, expected, this.#depthValues);
    this.#depthValues = values;
    return deepest;
  }

  /** When an answer ends early; null where its budget or its text allows no landing. */
  landing({ budget, arrivedAt, lands, kind, tenant }: Sequence): LandingWindow | null {
    if (!lands || budget?.totalMs == null) return null;
    const endsAt = arrivedAt + budget.totalMs - this.#policy.requestOverheadMs;
    const opensAt = arrivedAt + this.#policy.landingOpens * (endsAt - arrivedAt);
    return { opensAt, endsAt, sentenceTokens: this.#sentences.next(kind, tenant) };
  }

  /** Whether an answer that is cut at its deadline would pass it in a step. */
  isOverdue(sequence: Sequence, now: number, work: Work): boolean {
    return cutAt(sequence) < now + this.predictMs(work) + this.#policy.requestOverheadMs;
  }

  predictMs(work: Work): number {
    return predictMs(this.#costs, work);
  }

  /** Learns from a finished step. */
  observeStep(work: Work, { cycleMs, planningMs }: Pick<StepResult, 'cycleMs' | 'planningMs'>): void {
    this.#costs = observeStep(this.#costs, work, cycleMs, planningMs);
  }

  /** Learns from a request with a place in the queue. */
  observeArrival({ budget, expectedFrontiers, lands, maxTokens, promptLength, tenant }: Sequence, now: number): void {
    if (budget?.totalMs == null) return;
    const positions = promptLength - (expectedFrontiers[0] ?? 0);
    const terms = { budgetMs: budget.totalMs, maxTokens, lands };
    const arrival = { at: now, tenant, promptTokens: promptLength, positions, ...terms };
    this.#arrivals = [...this.#arrivals, arrival].slice(-this.#policy.mostArrivals);
  }

  /**
   * Learns from rejected requests: each is an arrival if an idle machine would keep its budget, since depth can make
   * room. Choices of a request fare alike, so one of them is planned.
   */
  observeRejections(sequences: readonly Sequence[], engine: Occupancy): void {
    const isKept = new Map<Sequence['request']['depth'], boolean>();
    for (const sequence of sequences) {
      const { depth } = sequence.request;
      const known = isKept.get(depth) ?? this.#isKeptAlone(sequence, engine);
      isKept.set(depth, known);
      if (known) this.observeArrival(sequence, engine.now);
    }
  }

  #isKeptAlone(sequence: Sequence, engine: Occupancy): boolean {
    if (sequence.budget?.totalMs == null) return false;
    const idle = new Snapshot({ ...engine, live: [], waiting: [sequence] }, this.#estimates());
    return idle.requests.some(({ isReachable }) => isReachable);
  }

  /** Learns from an admitted request whose answer ended. Text that a client's bias wrote teaches nothing. */
  observeEnd(sequence: Sequence, at: number, end: AnswerEnd): void {
    this.#refusals.clear();
    if (end === 'error') return;
    const { exit, generated: tokens, isExactLength, lands, kind, maxTokens, sentence, tenant } = sequence;
    if (!isExactLength && !sequence.isBiased)
      this.#lengths.observe(kind, tenant, exit, tokens, end === 'ended' && tokens < maxTokens);
    if (lands && !sequence.isBiased) this.#sentences.observe(sentence, kind, tenant);
    if (sequence.serviceClass !== 'guaranteed' || end === 'cancelled') return;
    this.#margin.observe(tenant, this.#isKept(sequence, at, end), at);
  }

  /** Whether an answer kept its promise: its time, or the tokens that were promised where nothing ended it. */
  #isKept(sequence: Sequence, at: number, end: AnswerEnd): boolean {
    const { arrivedAt, budget, generated: tokens, promisedTokens } = sequence;
    if (end === 'deadline') return promisedTokens !== null && tokens >= promisedTokens;
    const { requestOverheadMs } = this.#policy;
    const firstTokenAt = (sequence.firstTokenAt ?? at) + requestOverheadMs;
    const times = timesOf({ arrivedAt, firstTokenAt, endedAt: at + requestOverheadMs, tokens });
    return isKept(outcomeOf({ end: end === 'landed' ? end : 'whole' }, times, budget));
  }

  #estimates(): Estimates {
    return {
      model: this.#costs,
      policy: this.#policy,
      lengths: this.#lengths,
      utility: this.#utility,
      sentences: this.#sentences,
    };
  }
}

/** The choices of an answer that has begun go on. */
function hopelessOf(state: Snapshot): readonly Sequence[] {
  const answering = state.occupancy.live.filter(({ generated }) => generated > 0);
  const begun = new Set(answering.map(({ request }) => request.depth));
  const found = state.requests.filter(({ sequence, isReachable }) => {
    return sequence.lands && sequence.generated === 0 && !isReachable && !begun.has(sequence.request.depth);
  });
  return found.map(({ sequence }) => sequence);
}

function orderOf({ requests, protectedRows }: Snapshot): Omit<ServiceOrder, 'hopeless'> {
  if (requests.every(({ isLive }) => isLive)) return { order: [], protectedRows: 0 };
  const { due, others } = edfOrder(requests);
  const waiting = [...due.filter(({ isPromised }) => isPromised), ...due, ...others].filter(({ isLive }) => !isLive);
  const held = requests.filter(({ isLive, isPromised }) => isLive && !isPromised).length;
  const oldest = others.find(({ isLive, isPromised }) => !isLive && !isPromised);
  const lead = oldest !== undefined && held < protectedRows ? [oldest] : [];
  return { order: [...new Set([...lead, ...waiting])].map(({ sequence }) => sequence), protectedRows };
}
