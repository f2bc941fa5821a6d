/**
 * Admission control: the exit, the service class and the prediction of new requests, or the least budget that would be
 * guaranteed.
 */
import { type ExitIndex, deepestOf } from './cost/model.js';
import { at } from '../../util/at.js';
import { StepSum } from './cost/step-costs.js';
import { cutAt, hasBudget } from '../../protocol/outcome.js';
import type { DepthReason } from '../../protocol/index.js';
import { decidedTogether } from './arrivals.js';
import { bestExit, fatesWithin } from './exit-choice.js';
import type { Fate } from './outlook.js';
import type { PlannedRequest } from './planned-request.js';
import { breaks, type Held, isBroken, latestStarts, nextStepMs, promises, type SafetyMargins } from './promise.js';
import type { Sequence, Terms } from './sequence.js';
import type { Snapshot } from './snapshot.js';
import type { Admission, Armed, Planned, Rejected } from './types.js';

const NEVER: Held = { isInTime: false, hasMemory: true, readyMs: Infinity };

/**
 * Admits what arrived since the last step. Promises are made one after the other; exits and predictions know of all
 * that are admitted, so the first of a burst is not predicted as if it were alone.
 * @param state without them
 * @param bound of the load on depth
 * @param refused tenants whose nets found no room a moment ago
 * @returns by request
 */
export function admitAll(
  arrived: readonly Sequence[],
  state: Snapshot,
  margins: SafetyMargins,
  bound: ExitIndex,
  refused: readonly string[] = [],
): Admission[] {
  const round = new Round(state, margins, bound, refused);
  const decisions = decidedTogether(arrived).flatMap((choices) => round.decide(choices));
  if (decisions.every(isRejected)) return decisions;
  const fates = fatesWithin(state, round.requests, bound);
  return decisions.map((each) => {
    if (isRejected(each)) return each;
    if (each.sequence.isAsleep) return round.armed(each);
    const fate = fates.get(each);
    if (fate === undefined) throw new Error(`request ${each.sequence.id} has no outlook`);
    return admitted(state, each, fate);
  });
}

const isRejected = (each: PlannedRequest | Rejected): each is Rejected => 'kind' in each;

/** The decisions of one step, each with those before it. */
class Round {
  /** Present requests, and admitted ones. */
  readonly requests: PlannedRequest[];
  /** The same of nets that sleep. */
  readonly #nets: PlannedRequest[];
  /** Requests without a promise, and refused ones. A further one that asks for as much finds no more room. */
  readonly #unpromised: PlannedRequest[] = [];
  readonly #useless: PlannedRequest[] = [];
  /** The last least budget: beside as many requests it is enough for one that asks for less. */
  #named: { readonly count: number; readonly other: PlannedRequest; readonly named: number | null } | null = null;

  constructor(
    private readonly state: Snapshot,
    private readonly margins: SafetyMargins,
    private readonly bound: ExitIndex,
    private readonly refused: readonly string[],
  ) {
    this.requests = [...state.requests];
    this.#nets = [...state.nets];
  }

  /** @param choices a group of decidedTogether @returns by choice: as it stays among the requests, or its rejection */
  decide(choices: readonly Sequence[]): (PlannedRequest | Rejected)[] {
    const first = at(choices, 0);
    if (first.isAsleep) return this.#arm(choices);
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
    const taken = this.state.proposed(sequence, { serviceClass: isPromised ? 'guaranteed' : 'best_effort' });
    (sequence.isAsleep ? this.#nets : this.requests).push(taken);
    return taken;
  }

  /** Nets that sleep, or have no room. */
  #arm(choices: readonly Sequence[]): (PlannedRequest | Rejected)[] {
    const { arrivedAt: from, budget } = at(choices, 0);
    // It wakes behind a step.
    const arrivedAt = from - nextStepMs(this.state, this.requests);
    // One whose first part is due too early wakes at once, with the promise of its total.
    const whole = budget && { totalMs: budget.totalMs, ttftMs: null, tpotMs: null, onMiss: budget.onMiss };
    for (const change of [{ arrivedAt }, { arrivedAt, budget: whole }])
      if (!isBroken(this.#trial(choices, change))) return choices.map((each) => this.#take(each, true));
    const { slots, kvPositions } = this.state.engine;
    const asked = choices.map((each) => this.state.proposed(each, { serviceClass: 'guaranteed' }));
    const careful = this.#carefulOf(at(choices, 0));
    const isFull = !isBroken(tried(this.state, [], asked, { careful, slots, kvPositions }));
    return choices.map(() => ({ kind: 'reject', leastFeasibleMs: null, isFull }));
  }

  /** The latest start of a net, beside all that are admitted. */
  armed(net: PlannedRequest): Armed {
    const start = latestStarts(this.state, this.requests, this.#nets, this.#carefulOf(net.sequence)).get(net);
    if (start === undefined) throw new Error(`net ${net.sequence.id} does not sleep`);
    return { kind: 'arm', ...start };
  }

  #isPromised(choices: readonly Sequence[]): boolean {
    const first = at(choices, 0);
    if (!first.hasBudget) return false;
    // The promise of a net was made before its sleep.
    if (first.isNet) return true;
    const asked = choices.map((each) => this.state.proposed(each));
    return this.#isRoom(asked, this.#unpromised, () => !isBroken(this.#trial(choices)));
  }

  /** Whether new requests are likely to have a first sentence in time, or their whole answers. */
  #isUseful(added: readonly PlannedRequest[]): boolean {
    return this.#isRoom(added, this.#useless, () => {
      const fates = fatesWithin(this.state, this.requests, this.bound);
      return added.every((each) => {
        const { exit, steps } = fates.get(each) ?? { exit: each.minExit, steps: 0 };
        return each.isGoodWithin(exit, steps) >= this.state.policy.leastSentence;
      });
    });
  }

  /** Whether there is room by an outlook, which a burst needs once for requests that ask for as much. */
  #isRoom(asked: readonly PlannedRequest[], refused: PlannedRequest[], find: () => boolean): boolean {
    const isKnown = asked.some((each) => refused.some((other) => isNoEasier(each, other)));
    const isRoom = !isKnown && find();
    if (!isKnown && !isRoom && asked.length === 1) refused.push(...asked);
    return isRoom;
  }

  /** Factor on the times of a tenant's promises. */
  #carefulOf({ tenant }: Sequence): number {
    return 1 + this.margins.at(tenant, this.state.now);
  }

  /**
   * Whether promises to new requests would hold, beside older promises, nets that sleep and the shares of keys.
   * @param change of the terms of the choices
   */
  #trial(choices: readonly Sequence[], change: Partial<Terms> = {}): Held {
    const { state } = this;
    const { engine } = state;
    const requests = [...this.requests, ...this.#nets];
    const asked = choices.map((each) => state.proposed(each, { ...change, serviceClass: 'guaranteed' }));
    // A budget that is over has no promise to be late for.
    if (asked.some(({ isPromised }) => !isPromised)) return NEVER;
    const first = at(choices, 0);
    const careful = this.#carefulOf(first);
    const { slots, kvPositions } = engine;
    const whole = tried(state, requests, asked, { careful, slots, kvPositions });
    const keys = keysOf(requests, first.tenant, this.refused);
    if (keys === 1 || !whole.isInTime) return whole;
    const own = tried(
      state,
      requests.filter(({ sequence }) => sequence.tenant === first.tenant),
      asked,
      {
        careful: careful * keys,
        slots: Math.max(1, Math.floor(slots / keys)),
        kvPositions: kvPositions / keys,
      },
    );
    return {
      isInTime: own.isInTime,
      hasMemory: whole.hasMemory && own.hasMemory,
      readyMs: Math.max(whole.readyMs, own.readyMs),
    };
  }

  #reject(choices: readonly Sequence[]): Rejected[] {
    const { requests, state } = this;
    const asked = state.proposed(at(choices, 0));
    const { count = NaN, other = asked, named = null } = this.#named ?? {};
    const isKnown = count === requests.length && choices.length === 1 && asksNoLess(other, asked);
    const laterMs = asked.terms.arrivedAt - other.terms.arrivedAt;
    const leastFeasibleMs = isKnown ? named && Math.ceil(named - laterMs) : this.#leastBudget(choices);
    if (!isKnown && choices.length === 1)
      this.#named = { count: requests.length, other: asked, named: leastFeasibleMs };
    return choices.map(() => ({ kind: 'reject', leastFeasibleMs }));
  }

  /**
   * The least total budget whose promise would hold: where the request is ready behind all others, with room for a
   * retry, and wider while that makes an older promise late. A longer budget takes more memory: without the room it may
   * fit.
   */
  #leastBudget(choices: readonly Sequence[]): number | null {
    const { longestBudgetMs, requestOverheadMs, retryRoom, leastWider } = this.state.policy;
    const attempt = (totalMs: number): Held =>
      this.#trial(choices, { budget: { totalMs, ttftMs: null, tpotMs: null, onMiss: 'reject' } });
    const last = attempt(longestBudgetMs);
    if (!last.isInTime) return null;
    const waitedMs = this.state.now - at(choices, 0).arrivedAt + requestOverheadMs;
    // A retry is decided behind the step that begins.
    const retryMs = waitedMs + nextStepMs(this.state, this.requests);
    let totalMs = Math.ceil((waitedMs + last.readyMs) * (1 + retryRoom) + retryMs);
    for (let i = 0; i < MOST_TRIALS && totalMs < longestBudgetMs; i += 1) {
      const { isInTime, hasMemory, readyMs } = attempt(totalMs);
      if (isInTime && hasMemory) return totalMs;
      const exactMs = Math.ceil(waitedMs + readyMs);
      if (isInTime && exactMs >= totalMs) return null;
      totalMs = isInTime ? exactMs : Math.ceil(totalMs * leastWider);
    }
    return null;
  }
}

/** Whether a request asks for as much as another one of its tenant, whenever both are due. */
function asksNoLess(each: PlannedRequest, other: PlannedRequest): boolean {
  const { sequence: a } = each;
  const { sequence: b } = other;
  const isLike = a.tenant === b.tenant && a.kind === b.kind && a.lands === b.lands && a.maxTokens === b.maxTokens;
  if (!isLike || a.isExactLength !== b.isExactLength || each.minExit < other.minExit) return false;
  return each.prefillMs(each.minExit) >= other.prefillMs(other.minExit);
}

/** The same, due no later. */
function isNoEasier(each: PlannedRequest, other: PlannedRequest): boolean {
  const isSooner = each.end <= other.end && each.firstDue <= other.firstDue && each.sentenceDue <= other.sentenceDue;
  return isSooner && each.tpotMs <= other.tpotMs && asksNoLess(each, other);
}

/** Budgets that a rejection tries, at most. */
const MOST_TRIALS = 10;

interface Part {
  readonly careful: number;
  readonly slots: number;
  readonly kvPositions: number;
}

/** Whether new promises would hold on a part of the machine, and break no older one. */
function tried(
  state: Snapshot,
  requests: readonly PlannedRequest[],
  asked: readonly PlannedRequest[],
  part: Part,
): Held {
  const found = promises(state, [...requests, ...asked], part);
  const own = asked.map((each) => found.get(each) ?? NEVER);
  const isInTime = own.every((each) => each.isInTime);
  const isHeld = isInTime && (![...found.values()].some(isBroken) || !breaks(found, promises(state, requests, part)));
  return {
    isInTime: isHeld,
    hasMemory: own.every(({ hasMemory }) => hasMemory),
    readyMs: Math.max(...own.map(({ readyMs }) => readyMs)),
  };
}

/**
 * Equal parts of the machine, of which a key's promises count on one: its own, and one of each key with requests
 * without a promise. A net that found no room is such a request. One promise of a key is free, since no part may be
 * too small.
 */
function keysOf(requests: readonly PlannedRequest[], tenant: string, refused: readonly string[]): number {
  if (!requests.some(({ isPromised, sequence }) => isPromised && sequence.tenant === tenant)) return 1;
  const rivals = requests.filter(({ isPromised, sequence }) => !isPromised && sequence.tenant !== tenant);
  const others = refused.filter((each) => each !== tenant);
  return 1 + new Set([...others, ...rivals.map(({ sequence }) => sequence.tenant)]).size;
}

/** The answer to a request that is admitted: lengths by the estimate, within its budget. */
function admitted(state: Snapshot, self: PlannedRequest, fate: Fate): Planned {
  const { policy, now, model } = state;
  const { sequence } = self;
  const { exit, tokenMs } = fate;
  const { budget, generated } = sequence;
  const hasTurn = fate.firstAt < Infinity;
  const firstAt = hasTurn ? fate.firstAt : self.prefillMs(exit) + tokenMs;
  const steps = hasTurn ? fate.steps : (self.end - now - firstAt) / tokenMs;
  const ttftMs = now + firstAt - (sequence.arrivedAt - policy.requestOverheadMs);
  const isCut = cutAt(sequence) < Infinity;
  const tokens = (share: number): number => {
    const whole = self.stepsLeft(exit, share);
    return isCut ? Math.min(whole, Math.max(1, Math.floor(steps))) : whole;
  };
  const totalMs = (share: number): number => {
    const ms = ttftMs + Math.max(0, tokens(share) - 1) * tokenMs;
    return isCut ? Math.min(ms, budget?.totalMs ?? Infinity) : ms;
  };
  return {
    kind: 'admit',
    exit: at(model.shape.exits, exit).layer,
    reason: reasonOf(state, self, exit),
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

/** Why a request has an exit: the load, where it would have a deeper one alone on the machine. */
function reasonOf(state: Snapshot, self: PlannedRequest, exit: ExitIndex): DepthReason {
  if (exit === self.maxExit) return 'deepest';
  const alone = bestExit(self, deepestOf(state.model.shape), state.now, new StepSum(state.costs));
  return alone > exit ? 'load' : 'budget';
}
