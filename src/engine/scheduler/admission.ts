/**
 * Admission control: the exit, the service class and the prediction of new requests, or the least budget that would be
 * guaranteed.
 */
import type { ExitIndex } from './cost/model.js';
import { at } from '../../util/at.js';
import { StepSum } from './cost/step-costs.js';
import { cutAt, hasBudget } from '../../protocol/outcome.js';
import { decidedTogether } from './arrivals.js';
import { bestExit, fatesWithin } from './exit-choice.js';
import { type Fate, fateOf } from './outlook.js';
import type { PlannedRequest } from './planned-request.js';
import { breaks, latestStarts, nextStepMs, promises, type PromiseTerms, type SafetyMargins } from './promise.js';
import type { Sequence, Terms } from './sequence.js';
import { proposed, type Snapshot } from './snapshot.js';
import type { Admission, Planned, Rejected } from './types.js';

/** The learnt state of a planner, as far as admission depends on it. */
export interface Learnt {
  readonly margins: SafetyMargins;
  /** Deepest exit that the load allows. */
  readonly bound: ExitIndex;
  /** Tenants whose nets found no room a moment ago. */
  readonly refused: readonly string[];
}

/**
 * Admits what arrived since the last step. Promises are made one after the other; exits and predictions know of all
 * that are admitted, so the first of a burst is not predicted as if it were alone.
 * @param state without them
 * @returns by request
 */
export function admitAll(arrived: readonly Sequence[], state: Snapshot, learnt: Learnt): Admission[] {
  const round = new Round(state, learnt);
  const decisions = decidedTogether(arrived).flatMap((choices) => round.decide(choices));
  if (decisions.every(isRejected)) return decisions;
  const fates = fatesWithin(state, round.requests, learnt.bound);
  return decisions.map((each) => {
    if (isRejected(each)) return each;
    return each.sequence.isAsleep ? round.armed(each) : admitted(state, each, fateOf(fates, each));
  });
}

const isRejected = (each: PlannedRequest | Rejected): each is Rejected => 'kind' in each;

/** Whether new promises would hold, and break no older one. */
interface Tried {
  readonly isHeld: boolean;
  /** Milliseconds until all have what they cover. */
  readonly readyMs: number;
}

const NEVER: Tried = { isHeld: false, readyMs: Infinity };

/** The decisions of one step, each with those before it. */
class Round {
  /** Present requests, and admitted ones. */
  readonly requests: PlannedRequest[];
  /** The same of nets that sleep. */
  readonly #nets: PlannedRequest[];
  /** The last rejection of each likeness, and how many requests it was beside: a burst asks the same many times. */
  readonly #rejected = new Map<string, { readonly beside: number; readonly rejected: Rejected }>();

  constructor(
    private readonly state: Snapshot,
    private readonly learnt: Learnt,
  ) {
    this.requests = [...state.requests];
    this.#nets = [...state.nets];
  }

  /** @param choices a group of decidedTogether @returns by choice: as it stays among the requests, or its rejection */
  decide(choices: readonly Sequence[]): (PlannedRequest | Rejected)[] {
    const first = at(choices, 0);
    if (first.isAsleep) return this.#arm(choices);
    const like = this.#rejected.size === 0 ? undefined : this.#rejected.get(this.#likenessOf(choices));
    if (like?.beside === this.requests.length) return choices.map(() => like.rejected);
    if (first.budget?.onMiss === 'reject') {
      if (!this.#isPromised(choices)) return this.#reject(choices);
      return choices.map((each) => this.#take(each, true));
    }
    const before = this.requests.length;
    const taken = choices.map((each) => this.#take(each, this.#isPromised([each])));
    // A promise covers a sentence, or the whole answer.
    if (!first.isRefusable || taken.every(({ isPromised }) => isPromised) || this.#isUseful(taken)) return taken;
    this.requests.length = before;
    return this.#reject(choices);
  }

  #take(sequence: Sequence, isPromised: boolean): PlannedRequest {
    const taken = proposed(this.state, sequence, { serviceClass: isPromised ? 'guaranteed' : 'best_effort' });
    (sequence.isAsleep ? this.#nets : this.requests).push(taken);
    return taken;
  }

  /** Nets that sleep, or have no room. */
  #arm(choices: readonly Sequence[]): (PlannedRequest | Rejected)[] {
    const first = at(choices, 0);
    const { budget } = first;
    // It wakes behind a step.
    const arrivedAt = first.arrivedAt - nextStepMs(this.state, this.requests);
    // One whose first part is due too early wakes at once, with the promise of its total.
    const whole = budget && { totalMs: budget.totalMs, ttftMs: null, tpotMs: null, onMiss: budget.onMiss };
    for (const change of [{ arrivedAt }, { arrivedAt, budget: whole }])
      if (this.#trial(choices, change).isHeld) return choices.map((each) => this.#take(each, true));
    const { isHeld } = this.#tried([], choices, {}, { careful: this.#carefulOf(first) });
    return choices.map(() => ({ kind: 'reject', leastFeasibleMs: null, isFull: isHeld }));
  }

  /** The latest start of a net, beside all that are admitted. */
  armed(net: PlannedRequest): Admission {
    const start = latestStarts(this.state, this.requests, this.#nets, this.#carefulOf(net.sequence)).get(net);
    if (start === undefined) throw new Error(`net ${net.sequence.id} does not sleep`);
    return { kind: 'arm', ...start };
  }

  #isPromised(choices: readonly Sequence[]): boolean {
    const { hasBudget, isNet } = at(choices, 0);
    // The promise of a net was made before its sleep.
    return hasBudget && (isNet || this.#trial(choices).isHeld);
  }

  /** Whether new requests are likely to have a first sentence in time, or their whole answers. */
  #isUseful(added: readonly PlannedRequest[]): boolean {
    const fates = fatesWithin(this.state, this.requests, this.learnt.bound);
    return added.every((each) => {
      const { exit, steps } = fateOf(fates, each);
      return each.isGoodWithin(exit, steps) >= this.state.policy.leastSentence;
    });
  }

  /** Factor on the times of a tenant's promises. */
  #carefulOf({ tenant }: Sequence): number {
    return 1 + this.learnt.margins.at(tenant, this.state.now);
  }

  /**
   * Whether promises to new requests would hold, beside older promises, nets that sleep and the shares of keys.
   * @param change of the terms of the choices
   */
  #trial(choices: readonly Sequence[], change: Partial<Terms> = {}): Tried {
    const { slots, kvPositions } = this.state.engine;
    const all = [...this.requests, ...this.#nets];
    const first = at(choices, 0);
    const careful = this.#carefulOf(first);
    const whole = this.#tried(all, choices, change, { careful });
    const keys = keysOf(all, first.tenant, this.learnt.refused);
    if (keys === 1 || !whole.isHeld) return whole;
    const part = { slots: Math.max(1, Math.floor(slots / keys)), kvPositions: kvPositions / keys };
    const ofKey = all.filter(({ sequence }) => sequence.tenant === first.tenant);
    const own = this.#tried(ofKey, choices, change, { careful: careful * keys, ...part });
    return { isHeld: own.isHeld, readyMs: Math.max(whole.readyMs, own.readyMs) };
  }

  #tried(
    requests: readonly PlannedRequest[],
    choices: readonly Sequence[],
    change: Partial<Terms>,
    part: PromiseTerms,
  ): Tried {
    const { state } = this;
    const asked = choices.map((each) => proposed(state, each, { ...change, serviceClass: 'guaranteed' }));
    // A budget that is over has no promise to be late for.
    if (asked.some(({ isPromised }) => !isPromised)) return NEVER;
    const found = promises(state, [...requests, ...asked], part);
    const own = asked.map((each) => found.get(each) ?? { isKept: false, readyAt: Infinity });
    const isLate = own.some(({ isKept }) => !isKept);
    const mayBreak = !isLate && [...found.values()].some(({ isKept }) => !isKept);
    return {
      isHeld: !isLate && !(mayBreak && breaks(found, promises(state, requests, part))),
      readyMs: Math.max(...own.map(({ readyAt }) => readyAt)),
    };
  }

  #reject(choices: readonly Sequence[]): Rejected[] {
    const rejected: Rejected = { kind: 'reject', leastFeasibleMs: this.#leastBudget(choices) };
    this.#rejected.set(this.#likenessOf(choices), { beside: this.requests.length, rejected });
    return choices.map(() => rejected);
  }

  /** Requests that ask for the same have the same likeness, up to the grains of costs and instants. */
  #likenessOf(choices: readonly Sequence[]): string {
    const each = proposed(this.state, at(choices, 0));
    const { isExactLength, kind, lands, maxTokens, tenant } = each.sequence;
    const budget = { ...each.terms.budget, end: Math.ceil(each.end / LIKE_MS) };
    const terms = [choices.length, isExactLength, lands, maxTokens, each.minExit, each.prefillMs(each.minExit)];
    return JSON.stringify([tenant, kind, budget, ...terms]);
  }

  /**
   * The least total budget whose promise would hold: where the request is ready behind all others, with room for a
   * retry, and wider while that makes an older promise late.
   */
  #leastBudget(choices: readonly Sequence[]): number | null {
    const { now, policy } = this.state;
    const attempt = (totalMs: number): Tried =>
      this.#trial(choices, { budget: { totalMs, ttftMs: null, tpotMs: null, onMiss: 'reject' } });
    const waitedMs = now - at(choices, 0).arrivedAt + policy.requestOverheadMs;
    // A retry is decided behind the step that begins.
    const retryMs = waitedMs + nextStepMs(this.state, this.requests);
    let totalMs = Math.ceil((waitedMs + attempt(LONGEST_MS).readyMs) * (1 + policy.retryRoom) + retryMs);
    for (let i = 0; i < MOST_TRIALS && totalMs < LONGEST_MS; i += 1) {
      if (attempt(totalMs).isHeld) return totalMs;
      totalMs = Math.ceil(totalMs * WIDER);
    }
    return null;
  }
}

/** Deadlines within so many ms are alike, for rejections of one step. */
const LIKE_MS = 10;
/** The longest budget that a rejection names, ms: a day. */
const LONGEST_MS = 86_400_000;
/** Budgets that a rejection tries, at most, with the factor between two. */
const MOST_TRIALS = 10;
const WIDER = 1.3;

/**
 * Equal parts of the machine, of which a key's promises count on one: its own, and one of each key with requests
 * without a promise. A net that found no room is such a request. One promise of a key is free, since no part may be
 * too small.
 */
function keysOf(requests: readonly PlannedRequest[], tenant: string, refused: readonly string[]): number {
  if (!requests.some(({ isPromised, sequence }) => isPromised && sequence.tenant === tenant)) return 1;
  const rivals = requests.filter(({ isPromised }) => !isPromised).map(({ sequence }) => sequence.tenant);
  return new Set([tenant, ...rivals, ...refused]).size;
}

/** The answer to a request that is admitted: lengths by the estimate, within its budget. */
function admitted(state: Snapshot, self: PlannedRequest, fate: Fate): Planned {
  const { now, model } = state;
  const { sequence } = self;
  const { exit, firstAt, steps, tokenMs } = fate;
  const { arrivedAt, budget, generated } = sequence;
  const ttftMs = now + firstAt - (arrivedAt - state.policy.requestOverheadMs);
  const alone = bestExit(self, self.maxExit, now, new StepSum(state.costs));
  const isCut = cutAt(sequence) < Infinity;
  const tokens = (share: number): number =>
    Math.min(self.stepsLeft(exit, share), isCut ? Math.max(1, Math.floor(steps)) : Infinity);
  const totalMs = (share: number): number =>
    Math.min(ttftMs + Math.max(0, tokens(share) - 1) * tokenMs, isCut ? (budget?.totalMs ?? Infinity) : Infinity);
  return {
    kind: 'admit',
    exit: at(model.shape.exits, exit).layer,
    // The load, where it would have a deeper exit alone on the machine.
    reason: exit === self.maxExit ? 'deepest' : alone > exit ? 'load' : 'budget',
    serviceClass: !hasBudget(budget) ? 'none' : self.isPromised ? 'guaranteed' : 'best_effort',
    predictedTtftMs: ttftMs,
    predictedTpotMs: tokenMs,
    predictedMs: totalMs(0.5),
    predictedP10Ms: totalMs(0.1),
    predictedP90Ms: totalMs(0.9),
    expectedTokens: generated + tokens(0.5),
    expectedTokensP90: generated + tokens(0.9),
    probability: budget?.totalMs == null ? null : self.isGoodWithin(exit, steps),
    guaranteedTokens: generated + self.guaranteedSteps(exit),
  };
}
