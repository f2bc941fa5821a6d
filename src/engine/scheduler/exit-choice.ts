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
import type { PlannedRequest } from './planned-request.js';
import type { Policy } from './policy.js';
import type { Sequence } from './sequence.js';
import { type Snapshot, inOrder, othersShare } from './snapshot.js';
import { type ExitOf, leastOrPresent, type Outlook, outlook } from './outlook.js';
import { breaks, isBroken, promises, type Promises } from './promise.js';

/** A request with a total budget that arrived, admitted or not. */
export interface Arrival {
  readonly at: number;
  readonly tenant: string;
  /** Length of its prompt, and the positions of it to prefill. */
  readonly promptTokens: number;
  readonly positions: number;
  readonly budgetMs: number;
  readonly maxTokens: number;
  /** Whether its answer may end at a sentence; else it is worth nothing unless it is whole. */
  readonly lands: boolean;
}

/** The load as it arrives, and its bound on depth. */
export class Load {
  #arrivals: readonly Arrival[] = [];

  constructor(private readonly policy: Policy) {}

  /** Learns from a request that arrives, admitted or not. */
  observe(sequence: Sequence, now: number): void {
    const { budget, expectedFrontiers, lands, maxTokens, promptLength, tenant } = sequence;
    if (budget?.totalMs == null) return;
    const positions = promptLength - (expectedFrontiers[0] ?? 0);
    const terms = { promptTokens: promptLength, positions, budgetMs: budget.totalMs, maxTokens, lands };
    const arrival = { at: now, tenant, ...terms };
    this.#arrivals = [...recentOf(this.#arrivals, now, this.policy), arrival];
  }

  /** The deepest exit of answers that begin. */
  bound(state: Snapshot): ExitIndex {
    return depthBound(state, this.#arrivals);
  }
}

/** Milliseconds for which an arrival counts: its budget, within bounds. */
const countedMs = ({ budgetMs }: Arrival, { arrivalWindowMs, arrivalMostMs }: Policy): number =>
  Math.min(arrivalMostMs, Math.max(arrivalWindowMs, budgetMs));

const recentOf = (arrivals: readonly Arrival[], now: number, policy: Policy): readonly Arrival[] =>
  arrivals.filter((each) => now - each.at < countedMs(each, policy));

/**
 * Arrivals per millisecond: the lesser rate of the last second and of the budgets. The first shows the end of a burst
 * at once. The second spreads a burst over the time that its budgets leave.
 */
function rateOf(asked: readonly Arrival[], now: number, policy: Policy): number {
  const last = asked.filter(({ at }) => now - at < policy.arrivalWindowMs);
  const spanMs = Math.max(policy.arrivalLeastMs, now - (last[0]?.at ?? now));
  const spread = asked.reduce((sum, each) => sum + 1 / countedMs(each, policy), 0);
  return Math.min(last.length / spanMs, spread);
}

/**
 * The deepest exit of answers that begin: the one that gives the most right answers at the present rate.
 * A tenant counts for no more arrivals than all others together, so its flood makes no other tenant shallower.
 * @param arrivals in order
 */
export function depthBound(state: Snapshot, arrivals: readonly Arrival[]): ExitIndex {
  const { now, model, utility, policy } = state;
  const asked = shared(recentOf(arrivals, now, policy));
  let best = deepestOf(model.shape);
  if (asked.length === 0) return best;
  const rate = rateOf(asked, now, policy);
  const promptTokens = mean(asked, (each) => each.promptTokens);
  const work = workOf(state, asked);
  let most = 0;
  for (let exit = best; exit >= 0; exit -= 1) {
    const right = utility.accuracy(exit, promptTokens) * Math.min(rate, capacity(state, work, exit));
    if (right > most * (1 + policy.depthGain)) [best, most] = [exit, right];
  }
  return best;
}

/** The work that arrivals ask for, at any exit. */
interface Work {
  readonly maxTokens: number;
  readonly positions: number;
  /** Tokens to the end of the first sentence where an answer lands, else to its own end. */
  readonly tokens: readonly number[];
}

function workOf({ sentences }: Snapshot, asked: readonly Arrival[]): Work {
  return {
    maxTokens: mean(asked, (each) => each.maxTokens),
    positions: Math.max(
      1,
      mean(asked, (each) => each.positions),
    ),
    tokens: asked.map(({ lands, tenant }) => (lands ? sentences.first('chat', tenant) : Infinity)),
  };
}

/** Requests per millisecond that an exit serves from full slots, whole or to the end of a sentence where they land. */
function capacity(state: Snapshot, work: Work, exit: ExitIndex): number {
  const { model, policy, lengths, chunk, engine } = state;
  const { fixedMs, rowMs } = at(state.costs, exit);
  const whole = at(lengths.of('chat'), exit).meanLeft(0, work.maxTokens);
  const tokens = mean(work.tokens, (each) => Math.min(whole, each));
  const ownMs = promptMs(model, exit, work.positions, chunk) * (1 + policy.margin);
  return policy.depthLoad / (ownMs + tokens * (fixedMs / engine.slots + rowMs));
}

/** The arrivals that count: the last ones of a tenant with more than all others have. */
function shared(arrivals: readonly Arrival[]): readonly Arrival[] {
  const counts = new Map<string, number>();
  for (const { tenant } of arrivals) counts.set(tenant, (counts.get(tenant) ?? 0) + 1);
  const largest = [...counts].find(([, count]) => 2 * count > arrivals.length);
  if (largest === undefined || counts.size === 1) return arrivals;
  const [tenant, count] = largest;
  let skipped = 2 * count - arrivals.length;
  return arrivals.filter((each) => each.tenant !== tenant || skipped-- <= 0);
}

function mean<T>(values: readonly T[], of: (value: T) => number): number {
  let sum = 0;
  for (const value of values) sum += of(value);
  return sum / values.length;
}

/** Tokens that a net has time for at its exit, as a multiple of its sentence: others wake beside it. */
const NET_ROOM = 1.25;

type Fates = Outlook['fates'];

/**
 * The exits at which answers are worth most within their budgets, in order of service. One bound for all gets shallower
 * until every promise holds that the shallowest exits keep, those to nets that sleep included.
 * @param most deepest exit that the load allows
 */
export function chooseExits(state: Snapshot, most: ExitIndex): Fates {
  const { requests, nets, policy } = state;
  const all = [...requests, ...nets];
  const hasNets = all.some(({ sequence }) => sequence.isNet);
  // Depth takes no time of other keys.
  const promisedShare = Math.max(policy.leastPromisedShare, 1 - othersShare(requests, policy));
  const share = Math.max(1, (1 - policy.noBudgetShare) / promisedShare);
  // A net wakes with no more time than its margin, which depth leaves to it.
  const careful = share * (hasNets ? 1 + policy.initialMargin : 1);
  let least: Promises | null = null;
  for (let bound = most; ; bound -= 1) {
    const fates = fatesWithin(state, requests, bound);
    // A lone request begins no shallower for a promise than without one.
    if (bound === 0 || (all.length < 2 && !hasNets)) return fates;
    const exitOf: ExitOf = (each) => fates.get(each)?.exit ?? leastOrPresent(each);
    const found = promises(state, all, { careful, exitOf });
    if (![...found.values()].some(isBroken)) return fates;
    if (!breaks(found, (least ??= promises(state, all, { careful })))) return fates;
  }
}

/** How requests fare if each that begins takes its best exit within a bound. */
export function fatesWithin(state: Snapshot, requests: readonly PlannedRequest[], bound: ExitIndex): Fates {
  const { now, engine } = state;
  const exitOf: ExitOf = (each, beginsAt, step) =>
    each.isBeginning && each.isPrefilling ? bestExit(each, bound, now + beginsAt, step) : each.currentExit;
  return outlook(state, inOrder(requests).all, { slots: engine.slots, exitOf, drops: true }).fates;
}

/**
 * The deepest exit of the most worth; the shallowest where none is in time.
 * @param from when its prompt begins
 * @param step of the rows that it joins
 */
export function bestExit(each: PlannedRequest, bound: ExitIndex, from: number, step: StepSum): ExitIndex {
  if (!each.hasDeadline) return each.maxExit;
  let best: ExitIndex = each.minExit;
  let most = 0;
  for (const exit of each.exitsWithin(bound)) {
    const stepMs = step.with(exit);
    const begins = from + each.prefillMs(exit);
    const steps = (each.end - begins) / stepMs;
    const isFirstLate = each.sequence.firstTokenAt === null && begins + stepMs > each.firstDue;
    const isSentenceLate = each.sentenceDue < Infinity && begins + stepMs * each.sentenceTokens > each.sentenceDue;
    if (isFirstLate || isSentenceLate || stepMs > each.tpotMs || steps <= 0) continue;
    if (each.sequence.isNet && steps < each.guaranteedSteps(exit) * NET_ROOM) continue;
    const worth = each.utilityAt(exit, steps);
    if (worth > most) [best, most] = [exit, worth];
  }
  return best;
}
