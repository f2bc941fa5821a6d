/**
 * The decisions of a scheduler: admissions, the order of service, exits and prefill. The planner keeps learnt
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
  deepestOf,
  observeStep,
  predictMs,
} from './cost/model.js';
import { at } from '../../util/at.js';
import { promptMs } from './cost/step-costs.js';
import type { CostTable } from './cost/table.js';
import { isKept, LANDING_OPENS, outcomeOf, timesOf } from '../../protocol/outcome.js';
import { admitAll } from './admission.js';
import { Load, chooseExits } from './exit-choice.js';
import { type LengthPrior, OutputLengths, SentenceLength } from './output-length.js';
import { predictedWaitMs } from './outlook.js';
import type { PlannedRequest } from './planned-request.js';
import { Latest } from '../../util/latest.js';
import type { Policy } from './policy.js';
import { choosePrefill, pausedRows, tokenMsOf } from './prefill-choice.js';
import { latestStarts, SafetyMargins } from './promise.js';
import type { Sequence } from './sequence.js';
import type { StepResult } from './step-plan.js';
import { inOrder, type Occupancy, protectedRows, type Snapshot, snapshotOf } from './snapshot.js';
import type { Admission, AnswerEnd, LandingWindow, PrefillChunk } from './types.js';

/** Measurements of the model folder; null without one. */
export interface Priors {
  readonly lengths: LengthPrior | null;
}

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

/** A tenant whose net found no room counts as one that waits for so long, ms. */
const REFUSED_MS = 10_000;
const MOST_TENANTS = 1024;

export class Planner {
  readonly #policy: Policy;
  // Learned:
  readonly #lengths: OutputLengths;
  readonly #sentences: SentenceLength;
  readonly #load: Load;
  readonly #margin: SafetyMargins;
  /** When a tenant's net found no room. Those of others leave it its share for a while. */
  readonly #refused = new Latest<number>(MOST_TENANTS);
  #costs: CostModel;
  /** Instant of the last step or arrival. */
  #busyAt: number | null = null;
  /** When a prompt without a promise is due beside promises. */
  #shareDueAt = 0;
  /** Milliseconds until each next token by the last plan, the prompts that are to be expected included. */
  #tokenMs = 0;

  /** @param slowdown how many times slower than the table the machine is at start */
  constructor(shape: DepthShape, table: CostTable, policy: Policy, priors: Priors = { lengths: null }, slowdown = 1) {
    this.#policy = policy;
    this.#costs = costModel(table, shape, slowdown);
    this.#lengths = new OutputLengths(shape.exits.length, priors.lengths, policy);
    this.#sentences = new SentenceLength(policy);
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
    const refused = [...this.#refused].filter(([, at]) => now - at < REFUSED_MS).map(([tenant]) => tenant);
    const learnt = { margins: this.#margin, bound: this.#load.bound(state), refused };
    const admissions = admitAll(arrived, state, learnt);
    for (const [i, admission] of admissions.entries())
      if (admission.kind === 'reject' && admission.isFull === true) this.#refused.set(at(arrived, i).tenant, now);
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
    return predictedWaitMs(this.#stateOf(engine));
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

  /** Exits and prefill of the next step. */
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
    const paused = pausedRows(state, exitOf);
    const chunks = choosePrefill(state, exitOf, { paused, isOtherDue: state.now >= this.#shareDueAt });
    this.#chargeShare(state, chunks);
    const changed = live.filter((each) => exitOf(each) !== each.sequence.exit);
    return {
      exits: new Map(changed.map((each) => [each.sequence, exitOf(each)])),
      paused: new Set([...paused].map(({ sequence }) => sequence)),
      chunks,
    };
  }

  /**
   * Beside promises, a prompt without one earns `noBudgetShare` of the time, and spends it on chunks. Without the
   * share, a request without a budget waits 9.9 s instead of 2.7 s for its first token beside tight budgets of its key.
   */
  #chargeShare(state: Snapshot, [first]: readonly PrefillChunk[]): void {
    const { now, policy, requests, model, chunk } = state;
    const prompt = requests.find(({ sequence }) => sequence === first?.sequence);
    const hasPromises = requests.some(({ isPromised }) => isPromised);
    if (hasPromises && (first === undefined || prompt?.isPromised !== false)) return;
    const ms = promptMs(model, deepestOf(model.shape), first?.positions ?? chunk, chunk);
    this.#shareDueAt = now + ms / policy.noBudgetShare;
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

  /** Learns from requests that arrived. A rejected one counts where an idle machine keeps its budget. */
  observeArrivals(arrived: readonly Sequence[], engine: Occupancy): void {
    for (const each of arrived)
      if (!each.isOver || this.#isKeptAlone(each, engine)) this.#load.observe(each, engine.now);
  }

  #isKeptAlone(sequence: Sequence, engine: Occupancy): boolean {
    if (sequence.budget?.totalMs == null) return false;
    const idle = this.#stateOf({ ...engine, live: [], waiting: [sequence] });
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

  #stateOf(engine: Occupancy): Snapshot {
    return snapshotOf(engine, {
      model: this.#costs,
      policy: this.#policy,
      lengths: this.#lengths,
      sentences: this.#sentences,
    });
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
  const kept = protectedRows(requests, policy, slots);
  const others = requests.filter(({ isPromised }) => !isPromised);
  const waiting = inOrder(requests.filter(({ isLive }) => !isLive));
  const oldest = waiting.find(({ isPromised, isReachable }) => !isPromised && !isReachable);
  const lead = oldest !== undefined && others.filter(({ isLive }) => isLive).length < kept ? [oldest] : [];
  const order = new Set([...lead, ...waiting.filter(({ isPromised }) => isPromised), ...waiting]);
  return { order: [...order].map(({ sequence }) => sequence), protectedRows: kept };
}
