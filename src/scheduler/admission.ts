/**
 * Admission control: the exit, the service class and the prediction of new requests, or the least budget that would be
 * guaranteed.
 */
import { type ExitIndex, at } from '../cost/model.js';
import { cutAt, hasBudget } from '../protocol/early-end.js';
import type { DepthReason } from '../protocol/index.js';
import { type Arrival, deepestUnder, expectedAt } from './depth-bound.js';
import { type Exits, chooseExits, forecast } from './exit-choice.js';
import { type FirstSentences, firstSentences, isUseful, landsWithin, paceOf } from './first-sentence.js';
import type { BatchOutcome } from './forecast.js';
import type { Estimates, PlannedRequest } from './planned-request.js';
import { latePromises } from './promise.js';
import { promisedWork } from './promised-work.js';
import type { SafetyMargins } from './safety-margin.js';
import type { Sequence, Terms } from './sequence.js';
import { type Occupancy, type Proposal, Snapshot, proposed, sequenceOf } from './snapshot.js';
import type { Admission, Rejected } from './types.js';

/** The inputs of admission, beside the estimates of every plan. */
export interface AdmissionInputs extends Estimates {
  readonly arrivals: readonly Arrival[];
  readonly margins: SafetyMargins;
  /** Rejected requests whose named budgets are held for their retries, and the retries that came. */
  readonly quoted: readonly Proposal[];
  readonly claimed: ReadonlySet<Sequence>;
}

interface Admittance {
  readonly kind: 'admit';
  readonly isPromised: boolean;
}

type Decision = Admittance | Rejected;

/** Whether the promises to some requests hold under other terms. @param kvPositions of the KV cache, at most */
type Fits = (change: Partial<Terms>, kvPositions?: number) => boolean;

/**
 * Admits what arrived since the last step. Promises are made one after the other; exits and predictions know of all
 * that are admitted, so the first of a burst is not predicted as if it were alone.
 * @param groups by decidedTogether
 * @param engine without them
 * @returns by request
 */
export function admitAll(
  groups: readonly (readonly Sequence[])[],
  engine: Occupancy,
  inputs: AdmissionInputs,
): Admission[] {
  const round = new Round(engine, inputs);
  const decisions = groups.flatMap((choices) => round.decide(choices));
  const state = round.stateWith([]);
  const exits = round.exitsOf(state);
  const outcomes = forecast(state, exits);
  return groups.flat().map((sequence, i) => {
    const decision = at(decisions, i);
    if (decision.kind === 'reject') return decision;
    const index = state.requests.findIndex((each) => each.sequence === sequence);
    const self = at(state.requests, index);
    return admitted(state, self, exits.get(self) ?? self.currentExit, decision.isPromised, at(outcomes, index));
  });
}

/** The decisions of one step, each with those before it. */
class Round {
  readonly #taken: Proposal[] = [];
  /** Of the requests so far; null where none is known. */
  #sentences: FirstSentences | null = null;

  constructor(
    private readonly engine: Occupancy,
    private readonly inputs: AdmissionInputs,
  ) {}

  stateWith(more: readonly Proposal[], kvPositions = this.engine.kvPositions): Snapshot {
    return this.#stateOf([...this.#taken, ...more], kvPositions);
  }

  #stateOf(added: readonly Proposal[], kvPositions = this.engine.kvPositions): Snapshot {
    const waiting = [...this.engine.waiting, ...added];
    return new Snapshot({ ...this.engine, kvPositions, waiting }, this.inputs, Infinity);
  }

  exitsOf(state: Snapshot): Exits {
    const { arrivals, policy } = this.inputs;
    return chooseExits(state, deepestUnder(state, expectedAt(arrivals, this.engine.now, policy)));
  }

  /** @param choices a group of decidedTogether @returns by choice */
  decide(choices: readonly Sequence[]): Decision[] {
    if (at(choices, 0).budget?.onMiss === 'reject') {
      const isPromised = this.#isPromised(choices);
      return isPromised ? choices.map((each) => this.#take(each, true)) : this.#reject(choices);
    }
    const decisions = choices.map((each) => this.#take(each, this.#isPromised([each])));
    // A promise covers a sentence, and makes no older one late.
    if (decisions.every(({ isPromised }) => isPromised) || !choices.some(({ lands }) => lands)) {
      this.#sentences = null;
      return decisions;
    }
    const before = this.#sentences ?? this.#sentencesOf(this.#taken.slice(0, -choices.length));
    const after = this.#sentencesOf(this.#taken);
    if (isUseful(choices, before, after, this.inputs.policy)) {
      this.#sentences = after;
      return decisions;
    }
    this.#taken.splice(-choices.length);
    this.#sentences = before;
    return this.#reject(choices);
  }

  #take(request: Sequence, isPromised: boolean): Admittance {
    this.#taken.push(proposed(request, { serviceClass: isPromised ? 'guaranteed' : 'best_effort' }));
    return { kind: 'admit', isPromised };
  }

  #isPromised(choices: readonly Sequence[]): boolean {
    const request = at(choices, 0);
    return this.inputs.claimed.has(request) || (request.hasBudget && this.#fits(choices)({}));
  }

  /** @param surge factor on the time of steps */
  #fits(requests: readonly Sequence[], surge = 1): Fits {
    const factor = surge * this.#factorOf(at(requests, 0));
    return (change, kvPositions) => {
      const asked = requests.map((each) => proposed(each, { ...change, serviceClass: 'guaranteed' }));
      return isHeld(this.stateWith([...this.inputs.quoted, ...asked], kvPositions), requests, factor);
    };
  }

  /** Factor on the times of a tenant's promises. */
  #factorOf({ tenant }: Sequence): number {
    return 1 + this.inputs.margins.at(tenant, this.engine.now);
  }

  #reject(choices: readonly Sequence[]): Decision[] {
    const request = at(choices, 0);
    const state = this.stateWith(this.inputs.quoted);
    const leastFeasibleMs =
      leastFeasible(request, state, this.#fits(choices, surgeOf(this.inputs))) ??
      leastFeasible(request, state, this.#fits(choices));
    const promised = request.isDryRun ? promisedWork(request, state, this.#factorOf(request)) : undefined;
    return choices.map(() => ({ kind: 'reject', leastFeasibleMs, ...(promised && { promised }) }));
  }

  #sentencesOf(taken: readonly Proposal[]): FirstSentences {
    const state = this.#stateOf(taken);
    return firstSentences(state, this.exitsOf(state));
  }
}

/** How many times slower than the learned pace the slowest of the last steps was: the pace may get there. */
function surgeOf({ model: { drift } }: Estimates): number {
  return Math.max(1, ...drift.ratios.map((ratio) => ratio / drift.slowdown));
}

/** Requests by themselves, and the choices of one that may be rejected together: a rejection of one rejects all. */
export function decidedTogether(arrived: readonly Sequence[]): readonly (readonly Sequence[])[] {
  const groups: Sequence[][] = [];
  for (const request of arrived) {
    const last = groups.at(-1);
    const [first] = last ?? [];
    if (first !== undefined && isSibling(first, request)) last?.push(request);
    else groups.push([request]);
  }
  return groups;
}

function isSibling(a: Sequence, b: Sequence): boolean {
  // The choices of one answer share their fields.
  if (a.lands && a.request.depth === b.request.depth) return true;
  const mayReject = a.budget?.onMiss === 'reject' && b.budget?.onMiss === 'reject';
  return mayReject && a.arrivedAt === b.arrivedAt && a.budget.totalMs === b.budget.totalMs;
}

/** Whether the promises to these requests hold, make no older promise late, and leave other keys their share. */
function isHeld(state: Snapshot, asked: readonly Sequence[], careful: number): boolean {
  // A budget that is over has no promise to be late for.
  if (state.requests.some((each) => asked.includes(each.sequence) && !each.isPromised)) return false;
  if (!areAllKept(state, asked, careful)) return false;
  const share = shareOf(state, asked);
  return share === null || areAllKept(share.state, asked, careful * share.keys);
}

function areAllKept(state: Snapshot, asked: readonly Sequence[], careful: number): boolean {
  const late = latePromises(state, careful);
  if (late.size === 0) return true;
  if ([...late.keys()].some(({ sequence }) => asked.includes(sequence))) return false;
  // Forecast without the new requests, at the same step costs.
  const wasLate = latePromises(state, careful, new Map(), false, asked);
  return [...late.keys()].every((each) => wasLate.has(each));
}

/**
 * The machine as a key's promises may count on it while other keys have requests without a promise: each key has an
 * equal share of time, slots and memory. One promise of a key is free, since no share may be too small for any.
 * @returns null for the whole machine
 */
function shareOf(state: Snapshot, asked: readonly Sequence[]): { state: Snapshot; keys: number } | null {
  const { occupancy, requests } = state;
  const tenant = asked[0]?.tenant;
  const isOwn = (each: Sequence): boolean => each.tenant === tenant;
  const isFirst = !requests.some((each) => each.isPromised && isOwn(each.sequence) && !asked.includes(each.sequence));
  const rivals = requests.filter((each) => !each.isPromised && !isOwn(each.sequence));
  const keys = 1 + new Set(rivals.map(({ sequence }) => sequence.tenant)).size;
  if (keys === 1 || isFirst) return null;
  const own = {
    ...occupancy,
    slots: Math.max(1, Math.floor(occupancy.slots / keys)),
    kvPositions: occupancy.kvPositions / keys,
    live: occupancy.live.filter(isOwn),
    waiting: occupancy.waiting.filter((each) => isOwn(sequenceOf(each))),
  };
  return { state: new Snapshot(own, state, Infinity), keys };
}

/**
 * The least total budget, from arrival, whose promise would hold, with room for a retry.
 *
 * A longer budget makes its time easier to keep, and its memory harder: an answer that lands takes the positions that
 * its budget has time for. So the least budget in time is found by doubling and bisection, and none exists where the KV
 * cache does not hold that one.
 */
function leastFeasible({ arrivedAt }: Sequence, state: Snapshot, fits: Fits): number | null {
  const { now, policy } = state;
  const holds = (totalMs: number, kvPositions?: number): boolean =>
    fits({ budget: { totalMs, ttftMs: null, tpotMs: null, onMiss: 'reject' } }, kvPositions);
  let least = now - arrivedAt;
  let most = Math.max(64, 2 * least);
  while (!holds(most, Infinity)) {
    least = most;
    most *= 2;
    if (most > policy.longestBudgetMs) return null;
  }
  // A budget that memory does not hold is found to the millisecond.
  while (most - least > policy.leastAccuracy * most || (most - least > 1 && !holds(Math.ceil(most)))) {
    const between = (least + most) / 2;
    if (holds(between, Infinity)) most = between;
    else least = between;
  }
  // A retry waits for the step that begins as its rejection leaves. Then it is due later, with less time.
  const waitMs = now - arrivedAt + nextStepMs(state) + policy.requestOverheadMs;
  for (
    let named = most * (1 + policy.retryRoom) + waitMs, i = 0;
    i < policy.retrySearch;
    named *= policy.retryStep, i += 1
  ) {
    const totalMs = Math.ceil(named);
    if (holds(totalMs) && holds(totalMs - waitMs) && holds(totalMs + waitMs)) return totalMs;
  }
  return [1 + policy.leastAccuracy, 1].map((room) => Math.ceil(most * room)).find((totalMs) => holds(totalMs)) ?? null;
}

/** Milliseconds of the step that begins, about. */
function nextStepMs({ requests, policy, batchStepMs }: Snapshot): number {
  let prefillMs = 0;
  for (const each of requests) if (each.isPrefilling) prefillMs += each.prefillMs(each.currentExit);
  return batchStepMs + Math.min(policy.maxStallMs, prefillMs);
}

/** The answer to a request that is admitted: its times by the play, its lengths by the estimate, within its budget. */
function admitted(
  state: Snapshot,
  self: PlannedRequest,
  exit: ExitIndex,
  isPromised: boolean,
  outcome: BatchOutcome,
): Exclude<Admission, Rejected> {
  const { sequence } = self;
  const { budget, generated } = sequence;
  const { firstTokenAt, tokenMs: tpotMs, steps } = paceOf(state, self, exit, outcome);
  const ttftMs = state.now + firstTokenAt - (sequence.arrivedAt - state.policy.requestOverheadMs);
  const isCut = cutAt(sequence) < Infinity;
  const tokens = (share: number): number => {
    const whole = self.stepsLeft(exit, share);
    return isCut ? Math.min(whole, Math.max(1, Math.floor(steps))) : whole;
  };
  const totalMs = (share: number): number => {
    const ms = ttftMs + Math.max(0, tokens(share) - 1) * tpotMs;
    return isCut ? Math.min(ms, budget?.totalMs ?? Infinity) : ms;
  };
  const probability = sequence.lands ? landsWithin(self, exit, steps, state) : self.probabilityWithin(exit, steps);
  return {
    kind: 'admit',
    exit: at(state.model.shape.exits, exit).layer,
    reason: reasonOf(state, self, exit),
    serviceClass: !hasBudget(budget) ? 'none' : isPromised ? 'guaranteed' : 'best_effort',
    predictedTtftMs: ttftMs,
    predictedTpotMs: tpotMs,
    predictedMs: totalMs(0.5),
    predictedP10Ms: totalMs(0.1),
    predictedP90Ms: totalMs(0.9),
    expectedTokens: generated + tokens(0.5),
    expectedTokensP90: generated + tokens(0.9),
    probability: budget?.totalMs == null ? null : probability,
    guaranteedTokens: generated + self.guaranteedSteps(exit),
  };
}

/** Why a request has an exit: the first cause that alone explains it. */
function reasonOf(state: Snapshot, self: PlannedRequest, exit: ExitIndex): DepthReason {
  if (exit === self.maxExit) return 'deepest';
  const alone = new Snapshot({ ...state.occupancy, live: [], waiting: [self.sequence] }, state);
  const most = alone.costs.length - 1;
  return (chooseExits(alone, most).get(at(alone.requests, 0)) ?? exit) > exit ? 'load' : 'budget';
}
