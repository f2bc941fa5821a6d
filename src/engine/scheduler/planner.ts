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
import { isKept, LANDING_OPENS, outcomeOf, timesOf } from '../../protocol/outcome.js';
import { admitAll } from './admission.js';
import { RefusedNets } from './nets.js';
import { Load, chooseExits } from './exit-choice.js';
import { type LengthPrior, OutputLengths, SentenceLength } from './output-length.js';
import { predictedWaitMs } from './outlook.js';
import { type Estimates, type PlannedRequest, type PartialValue, Utility } from './planned-request.js';
import type { Policy } from './policy.js';
import { choosePrefill, isTight, rowsWithShare, shareDueAt, tokenMsOf } from './prefill-choice.js';
import { latestStarts, SafetyMargins } from './promise.js';
import type { Sequence } from './sequence.js';
import type { StepResult } from './step-plan.js';
import { inOrder, type Occupancy, protectedRows, Snapshot } from './snapshot.js';
import type { Admission, AnswerEnd, LandingWindow, PrefillChunk } from './types.js';

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
  readonly #load: Load;
  readonly #margin: SafetyMargins;
  readonly #refused = new RefusedNets();
  #costs: CostModel;
  /** Instant of the last step or arrival. */
  #busyAt: number | null = null;
  /** When a prompt without a promise is due beside promises; null while there is none of these. */
  #shareDueAt: number | null = null;
  /** Milliseconds until each next token by the last plan, the prompts that are to be expected included. */
  #tokenMs = 0;
  /** The last one. */
  #snapshot: Snapshot | null = null;

  /** @param slowdown how many times slower than the table the machine is at start */
  constructor(shape: DepthShape, table: CostTable, policy: Policy, priors: Priors = NO_PRIORS, slowdown = 1) {
    this.#policy = policy;
    this.#costs = costModel(table, shape, slowdown);
    this.#lengths = new OutputLengths(shape.exits.length, priors.lengths, policy);
    this.#sentences = new SentenceLength(policy);
    this.#utility = new Utility(shape, priors.partialValue);
    this.#load = new Load(policy);
    this.#margin = new SafetyMargins(policy);
  }

  /** The costs, with their drift. */
  get model(): CostModel {
    return this.#costs;
  }

  get tokenMs(): number {
    return this.#tokenMs;
  }

  /** Admissions, or rejections with the least budget, of requests that arrived together. */
  admit(arrived: readonly Sequence[], engine: Occupancy): Admission[] {
    const { now } = engine;
    if (engine.live.length === 0 && engine.waiting.length === 0) {
      this.#costs = decayWhileIdle(this.#costs, now - (this.#busyAt ?? now));
      this.#busyAt = now;
    }
    if (arrived.length === 0) return [];
    const state = this.#stateOf(engine);
    const admissions = admitAll(arrived, state, this.#margin, this.#load.bound(state), this.#refused.tenants(now));
    for (const [i, admission] of admissions.entries()) {
      const { tenant } = arrived[i] ?? {};
      if (admission.kind === 'reject' && admission.isFull === true && tenant !== undefined)
        this.#refused.note(tenant, now);
    }
    return admissions;
  }

  /** The latest starts of nets that sleep, by the margin of the tenant that needs most. */
  latestStarts(engine: Occupancy): ReadonlyMap<Sequence, number> {
    const state = this.#stateOf(engine);
    const most = Math.max(...state.nets.map(({ sequence }) => this.#margin.at(sequence.tenant, state.now)));
    // Nets that wake together make each other later than promises that begin at once.
    const careful = (1 + most) * (1 + this.#policy.initialMargin);
    const starts = latestStarts(state, state.requests, state.nets, careful);
    return new Map([...starts].map(([{ sequence }, { latestStart }]) => [sequence, latestStart]));
  }

  /**
   * Milliseconds until a request that would arrive now has its first token, with every prompt at its shallowest exit.
   */
  predictedWaitMs(engine: Occupancy): number {
    return predictedWaitMs(new Snapshot(engine, this.#estimates()));
  }

  /**
   * Promises go first. Other requests have their share of the slots; without one, the oldest of them goes before all.
   */
  serviceOrder(engine: Occupancy): ServiceOrder {
    const mayBeHopeless = engine.live.some(({ isRefusable, generated }) => isRefusable && generated === 0);
    if (engine.waiting.length === 0 && !mayBeHopeless) return { hopeless: [], order: [], protectedRows: 0 };
    const { requests } = this.#stateOf(engine);
    const hopeless = hopelessOf(engine, requests);
    const rest = hopeless.length === 0 ? requests : requests.filter((each) => !hopeless.includes(each));
    return { hopeless: hopeless.map(({ sequence }) => sequence), ...orderOf(rest, this.#policy, engine.slots) };
  }

  /** Exits, pauses and prefill of the next step. */
  decide(engine: Occupancy): Decisions {
    this.#busyAt = engine.now;
    const state = this.#stateOf(engine);
    const live = state.requests.filter(({ isLive }) => isLive);
    // A prompt that has run a chunk keeps its exit, unless another one begins. A stored prefix is no chunk of its own.
    const isNew = live.some(({ isBeginning, sequence, frontiers }) => {
      return isBeginning && (sequence.generated > 0 || (frontiers[0] ?? 0) <= sequence.cachedTokens);
    });
    const fates = isNew ? chooseExits(state, this.#load.bound(state)) : null;
    const exitOf = (each: PlannedRequest): ExitIndex => fates?.get(each)?.exit ?? each.currentExit;
    this.#tokenMs = tokenMsOf(state, exitOf);
    const isShort = isTight(state, exitOf);
    const paused = new Set(isShort ? rowsWithShare(state, exitOf) : []);
    const dueAt = shareDueAt(state, this.#shareDueAt, []);
    const isOtherDue = state.now >= (dueAt ?? Infinity);
    const chunks = choosePrefill(state, { exitOf, paused, isOtherDue, isTight: isShort });
    this.#shareDueAt = shareDueAt(state, dueAt, chunks);
    const changed = live.filter((each) => exitOf(each) !== each.sequence.exit);
    return {
      exits: new Map(changed.map((each) => [each.sequence, exitOf(each)])),
      paused: new Set([...paused].map(({ sequence }) => sequence)),
      chunks,
    };
  }

  /** When an answer ends early; null where its budget or its text allows no landing. */
  landing({ budget, arrivedAt, lands, kind, tenant }: Sequence): LandingWindow | null {
    if (!lands || budget?.totalMs == null) return null;
    const endsAt = arrivedAt + budget.totalMs - this.#policy.requestOverheadMs;
    const opensAt = arrivedAt + LANDING_OPENS * (endsAt - arrivedAt);
    return { opensAt, endsAt, sentenceTokens: this.#sentences.next(kind, tenant) };
  }

  /** When clients have the tokens of a step: an answer that is cut sooner would pass its deadline in it. */
  endsAt(now: number, work: Work): number {
    return now + this.predictMs(work) + this.#policy.requestOverheadMs;
  }

  predictMs(work: Work): number {
    return predictMs(this.#costs, work);
  }

  /** Learns from a finished step. */
  observeStep(work: Work, { cycleMs, planningMs }: Pick<StepResult, 'cycleMs' | 'planningMs'>): void {
    this.#costs = observeStep(this.#costs, work, cycleMs, planningMs);
  }

  /** Learns from a request with a place in the queue. */
  observeArrival(sequence: Sequence, now: number): void {
    this.#load.observe(sequence, now);
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
      if (known) this.#load.observe(sequence, engine.now);
    }
  }

  #isKeptAlone(sequence: Sequence, engine: Occupancy): boolean {
    if (sequence.budget?.totalMs == null) return false;
    const idle = new Snapshot({ ...engine, live: [], waiting: [sequence] }, this.#estimates());
    return idle.requests.some(({ isReachable }) => isReachable);
  }

  /** Learns from an admitted request whose answer ended. Text that a client's bias wrote teaches nothing. */
  observeEnd(sequence: Sequence, at: number, end: AnswerEnd): void {
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
    const { arrivedAt, budget, generated: tokens, isNet, lands, promisedTokens, sentence } = sequence;
    // A net ends behind its first sentence where others wait for its slot.
    if (end === 'deadline' && isNet && lands) return sentence.first !== null;
    if (end === 'deadline') return promisedTokens !== null && tokens >= promisedTokens;
    const { requestOverheadMs } = this.#policy;
    const firstTokenAt = (sequence.firstTokenAt ?? at) + requestOverheadMs;
    const times = timesOf({ arrivedAt, firstTokenAt, endedAt: at + requestOverheadMs, tokens });
    return isKept(outcomeOf({ end: end === 'landed' ? end : 'whole' }, times, budget));
  }

  /** Requests that wait at one instant are planned once. */
  #stateOf(engine: Occupancy): Snapshot {
    return (this.#snapshot = new Snapshot(engine, this.#estimates(), this.#snapshot));
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

/** Requests whose first sentence, or whole answer, has no time left. The choices of an answer that has begun go on. */
function hopelessOf({ live }: Occupancy, requests: readonly PlannedRequest[]): readonly PlannedRequest[] {
  const begun = new Set(live.filter(({ generated }) => generated > 0).map(({ request }) => request.depth));
  return requests.filter(({ sequence, isReachable }) => {
    return sequence.isRefusable && sequence.generated === 0 && !isReachable && !begun.has(sequence.request.depth);
  });
}

function orderOf(requests: readonly PlannedRequest[], policy: Policy, slots: number): Omit<ServiceOrder, 'hopeless'> {
  if (requests.every(({ isLive }) => isLive)) return { order: [], protectedRows: 0 };
  const kept = protectedRows(requests, policy, slots);
  const { due, all } = inOrder(requests);
  const isOther = ({ isPromised }: PlannedRequest): boolean => !isPromised;
  const held = requests.filter((each) => each.isLive && isOther(each)).length;
  const oldest = all.slice(due.length).find((each) => !each.isLive && isOther(each));
  const lead = oldest !== undefined && held < kept ? [oldest] : [];
  const order = [...new Set([...lead, ...due.filter(({ isPromised }) => isPromised), ...all])];
  return { order: order.filter(({ isLive }) => !isLive).map(({ sequence }) => sequence), protectedRows: kept };
}
