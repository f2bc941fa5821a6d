/**
 * The load, and the exits of the requests that begin.
 *
 * Rows share steps, so all pay for the depth of one: a bound for all is worth more than a choice for each. It is the
 * exit with the most accuracy x min(rate, capacity). Admission rejects what is beyond the capacity, and admitted
 * answers keep their worth. So no rate takes an exit with fewer right answers a millisecond than a deeper one.
 */
import { type ExitIndex, deepestOf } from './cost/model.js';
import { at } from '../../util/at.js';
import { promptMs, type StepSum } from './cost/step-costs.js';
import { accuracyBehind } from '../model/manifest.js';
import type { PlannedRequest } from './planned-request.js';
import type { Policy } from './policy.js';
import type { Sequence } from './sequence.js';
import { type Snapshot, inOrder } from './snapshot.js';
import { type ExitOf, type Fates, leastOrPresent, outlook } from './outlook.js';
import { breaks, promises, type Promises } from './promise.js';

/** A request with a total budget that arrived, admitted or not. */
export interface Arrival {
  readonly at: number;
  /** It counts for so long, ms: its budget, within bounds. */
  readonly forMs: number;
  readonly tenant: string;
  /** Length of its prompt, and the positions of it to prefill. */
  readonly promptTokens: number;
  readonly positions: number;
  readonly maxTokens: number;
  /** Whether its answer may end at a sentence; else it is worth nothing unless it is whole. */
  readonly lands: boolean;
}

/** The load as it arrives, and its bound on depth. */
export class Load {
  #arrivals: Arrival[] = [];

  constructor(private readonly policy: Policy) {}

  /** Learns from a request that arrives, admitted or not. */
  observe({ budget, expectedFrontiers, lands, maxTokens, promptLength, tenant }: Sequence, now: number): void {
    if (budget?.totalMs == null) return;
    const { arrivalWindowMs, arrivalMostMs } = this.policy;
    const forMs = Math.min(arrivalMostMs, Math.max(arrivalWindowMs, budget.totalMs));
    const positions = promptLength - (expectedFrontiers[0] ?? 0);
    this.#arrivals.push({ at: now, forMs, tenant, promptTokens: promptLength, positions, maxTokens, lands });
  }

  /** The deepest exit of answers that begin. */
  bound(state: Snapshot): ExitIndex {
    this.#arrivals = this.#arrivals.filter(({ at, forMs }) => state.now - at < forMs);
    return depthBound(state, this.#arrivals);
  }
}

/**
 * Arrivals per millisecond: the lesser rate of the last second and of the budgets. The first shows the end of a burst
 * at once. The second spreads a burst over the time that its budgets leave.
 */
function rateOf(asked: readonly Arrival[], { now, policy: { arrivalWindowMs } }: Snapshot): number {
  const last = asked.filter(({ at }) => now - at < arrivalWindowMs);
  return Math.min(
    fairSum(last, () => 1 / arrivalWindowMs),
    fairSum(asked, ({ forMs }) => 1 / forMs),
  );
}

/** A sum in which a tenant counts for no more than all others together, so its flood makes no other one shallower. */
function fairSum(asked: readonly Arrival[], of: (each: Arrival) => number): number {
  const parts = new Map<string, number>();
  for (const each of asked) parts.set(each.tenant, (parts.get(each.tenant) ?? 0) + of(each));
  const all = sum([...parts.values()]);
  return parts.size < 2 ? all : sum([...parts.values()].map((part) => Math.min(part, all - part)));
}

/** The deepest exit of answers that begin: the one that gives the most right answers at the present rate. */
export function depthBound(state: Snapshot, asked: readonly Arrival[]): ExitIndex {
  const { model, policy, lengths, sentences, costs, chunk, engine } = state;
  let best = deepestOf(model.shape);
  if (asked.length === 0) return best;
  const rate = rateOf(asked, state);
  const promptTokens = mean(asked.map((each) => each.promptTokens));
  const maxTokens = mean(asked.map((each) => each.maxTokens));
  const positions = Math.max(1, mean(asked.map((each) => each.positions)));
  // To the end of the first sentence where an answer lands, else to its own end.
  const tokens = asked.map(({ lands, tenant }) => (lands ? sentences.first('chat', tenant) : Infinity));
  let most = 0;
  for (let exit = best; exit >= 0; exit -= 1) {
    const { fixedMs, rowMs } = at(costs, exit);
    const whole = at(lengths.of('chat'), exit).meanLeft(0, maxTokens);
    const ownMs = promptMs(model, exit, positions, chunk) * (1 + policy.margin);
    const rowsMs = mean(tokens.map((each) => Math.min(whole, each))) * (fixedMs / engine.slots + rowMs);
    const accuracy = accuracyBehind(at(model.shape.exits, exit), promptTokens);
    const right = accuracy * Math.min(rate, policy.depthLoad / (ownMs + rowsMs));
    if (right > most * (1 + policy.depthGain)) [best, most] = [exit, right];
  }
  return best;
}

const sum = (values: readonly number[]): number => values.reduce((all, each) => all + each, 0);
const mean = (values: readonly number[]): number => sum(values) / values.length;

/**
 * The exits of the requests that begin, in order of service. The bound for all gets shallower until every promise holds
 * that the shallowest exits keep, those to nets that sleep included.
 * @param most deepest exit that the load allows
 */
export function chooseExits(state: Snapshot, most: ExitIndex): Fates {
  const { requests, nets, policy } = state;
  const all = [...requests, ...nets];
  // A net wakes with no more time than its margin, which depth leaves to it.
  const careful = all.some(({ sequence }) => sequence.isNet) ? 1 + policy.initialMargin : 1;
  let least: Promises | null = null;
  for (let bound = most; ; bound -= 1) {
    const fates = fatesWithin(state, requests, bound);
    if (bound === 0 || all.length < 2) return fates;
    const exitOf: ExitOf = (each) => fates.get(each)?.exit ?? leastOrPresent(each);
    const found = promises(state, all, { careful, exitOf });
    if (!breaks(found, (least ??= promises(state, all, { careful })))) return fates;
  }
}

/** How requests fare if each that begins takes its best exit within a bound. */
export function fatesWithin(state: Snapshot, requests: readonly PlannedRequest[], bound: ExitIndex): Fates {
  const { now, engine } = state;
  const exitOf: ExitOf = (each, beginsAt, step) =>
    each.isBeginning && each.isPrefilling ? bestExit(each, bound, now + beginsAt, step) : each.currentExit;
  return outlook(state, inOrder(requests), { slots: engine.slots, exitOf }).fates;
}

/**
 * The deepest exit at which all that a promise covers is in time; the shallowest where there is none.
 * @param from when its prompt begins
 * @param step of the rows that it joins
 */
export function bestExit(each: PlannedRequest, bound: ExitIndex, from: number, step: StepSum): ExitIndex {
  if (!each.hasDeadline) return each.maxExit;
  let exit = Math.min(each.maxExit, bound);
  while (exit > each.minExit && !fits(each, exit, from, step.with(exit))) exit -= 1;
  return Math.max(each.minExit, exit);
}

/** Whether all that a promise covers is in time at an exit. @param from when its prompt begins */
function fits(each: PlannedRequest, exit: ExitIndex, from: number, stepMs: number): boolean {
  const begins = from + each.prefillMs(exit);
  const isFirst = each.sequence.firstTokenAt !== null || begins + stepMs <= each.firstDue;
  return isFirst && stepMs <= each.tpotMs && begins + stepMs * each.guaranteedSteps(exit) <= each.promisedBy;
}
