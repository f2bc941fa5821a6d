/**
 * The load, and the deepest exit of new answers at which the most right answers are in time at the rate of arrivals.
 * Rows share steps, so the depth of one row is paid by all: one bound for all is worth more than a choice for each.
 *
 * The batch counts as a fluid. Requests arrive at rate l with s ms of prefill; a step takes f ms and r ms a row.
 * Answers of m tokens in the mean take t = f / (1 - l (s + m r)) a token. Where that is longer than their budget D
 * allows, they land at D, and m = D / t: then t = (f + l D r) / (1 - l s). The less of the two holds.
 *
 * The exits of the requests that begin, and how all requests fare with them.
 */
import { type ExitIndex, at, deepestOf } from './cost/model.js';
import { promptMs, type StepSum } from './cost/step-costs.js';
import type { LengthDistribution } from './output-length.js';
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
  /** It is worth something whole alone: it has an exact length, or is rejected where it can't be whole. */
  readonly isWhole: boolean;
}

/** The load as it arrives, and its bound on depth. */
export class Load {
  #arrivals: Arrival[] = [];
  #held: { readonly at: number; readonly exit: ExitIndex } | null = null;

  constructor(private readonly policy: Policy) {}

  /** Learns from a request that arrives, admitted or not. */
  observe(sequence: Sequence, now: number): void {
    const { budget, expectedFrontiers, isExactLength, lands, maxTokens, promptLength, tenant } = sequence;
    if (budget?.totalMs == null) return;
    const positions = promptLength - (expectedFrontiers[0] ?? 0);
    const terms = {
      budgetMs: budget.totalMs,
      maxTokens,
      lands,
      isWhole: !lands && (isExactLength || budget.onMiss === 'reject'),
    };
    const arrival = { at: now, tenant, promptTokens: promptLength, positions, ...terms };
    this.#arrivals = [...recentOf(this.#arrivals, now, this.policy), arrival];
  }

  /** The deepest exit of answers that begin. Nothing bounds a lone request. */
  bound(state: Snapshot): ExitIndex {
    const { now, policy } = state;
    if (datedOf(state).length < 2) return deepestOf(state.model.shape);
    const held = this.#held !== null && now - this.#held.at < policy.depthHoldMs ? this.#held.exit : null;
    const exit = depthBound(state, this.#arrivals, held);
    if (exit !== held) this.#held = { at: now, exit };
    return exit;
  }
}

/** Requests whose total budgets are open. */
const datedOf = ({ requests }: Snapshot): readonly PlannedRequest[] =>
  requests.filter(({ hasDeadline, end }) => hasDeadline && end < Infinity);

const recentOf = (arrivals: readonly Arrival[], now: number, { arrivalWindowMs }: Policy): readonly Arrival[] =>
  arrivals.filter(({ at }) => now - at < arrivalWindowMs);

/** Requests per millisecond that are to be expected, and the last ones of them. */
interface Demand {
  readonly rate: number;
  readonly asked: readonly Arrival[];
  readonly promptTokens: number;
  readonly positions: number;
}

/**
 * The deepest exit of answers that begin beside others: of all exits, the one with the most right answers in time. A
 * tenant counts for no more arrivals than all others together, so its flood makes no other tenant shallower.
 * @param arrivals in order
 * @param held the present bound, which a better one must exceed: rows of unlike depths slow each other
 */
export function depthBound(state: Snapshot, arrivals: readonly Arrival[], held: ExitIndex | null = null): ExitIndex {
  const { policy, model } = state;
  const deepest = deepestOf(model.shape);
  const minExit = Math.min(deepest, ...datedOf(state).map((each) => each.minExit));
  const demand = demandOf(state, arrivals);
  if (demand === null) return deepest;
  let best: ExitIndex = minExit;
  let most = 0;
  let full = 0;
  for (let exit = deepest; exit >= minExit; exit -= 1) {
    const value = valueAt(state, demand, exit);
    if (exit === deepest) full = value;
    const counted = value * (exit === held ? 1 + policy.depthStay : 1);
    if (counted > most * (1 + policy.depthGain)) [best, most] = [exit, counted];
  }
  const free = unboundedValue(state, demand, minExit, full);
  return most > free * (1 + policy.depthGain) || (most === 0 && free > 0) ? best : deepest;
}

/**
 * Right answers in time without a bound: on an idle machine each budget chooses its own exit, and beside others it pays
 * for full depth.
 * @param full those at full depth
 */
function unboundedValue(state: Snapshot, demand: Demand, minExit: ExitIndex, full: number): number {
  const deepest = deepestOf(state.model.shape);
  const exits = Array.from({ length: deepest - minExit + 1 }, (_, i) => deepest - i);
  const own = mean(demand.asked, (each) =>
    Math.max(...exits.map((exit) => valueAt(state, { ...demand, rate: 0, asked: [each] }, exit))),
  );
  const { ownMs, tokens, alone } = workAt(state, demand, deepest);
  // Below 1: where no exit has an answer in time, the load is the cause if an idle machine has one.
  const busy = Math.min(1 - 1e-9, demand.rate * (ownMs + tokens * alone));
  return own * (1 - busy) + full * busy;
}

/** The requests that are to be expected, and present prompts, which are due within a typical budget. */
function demandOf(state: Snapshot, arrivals: readonly Arrival[]): Demand | null {
  const { now, policy } = state;
  const recent = shared(recentOf(arrivals, now, policy));
  const [first] = recent;
  if (first === undefined) return null;
  const asked = recent.slice(-policy.arrivalBudgets);
  const budgets = asked.map(({ budgetMs }) => budgetMs).sort((a, b) => a - b);
  // One prompt is the request itself.
  const prompts = datedOf(state).filter((each) => each.isBeginning && each.isReachable).length;
  const backlog = Math.max(0, prompts - 1) / at(budgets, budgets.length >> 1);
  return {
    rate: recent.length / Math.max(policy.arrivalLeastMs, now - first.at) + backlog,
    asked,
    promptTokens: mean(recent, ({ promptTokens }) => promptTokens),
    positions: mean(recent, ({ positions }) => positions),
  };
}

/** The work of a mean request at an exit: its prefill, its tokens, and a step of one row. */
function workAt({ policy, model, lengths, costs, chunk }: Snapshot, { asked, positions }: Demand, exit: ExitIndex) {
  const { fixedMs, rowMs } = at(costs, exit);
  const length = at(lengths.of('chat'), exit);
  return {
    ownMs: promptMs(model, exit, Math.max(1, positions), chunk) * (1 + policy.margin),
    length,
    tokens: length.meanLeft(
      0,
      mean(asked, ({ maxTokens }) => maxTokens),
    ),
    alone: fixedMs + rowMs,
    fixedMs,
    rowMs,
  };
}

/** Right answers in time, as a share of the arrivals, at an exit. */
function valueAt(state: Snapshot, demand: Demand, exit: ExitIndex): number {
  const { policy, utility } = state;
  const { rate, asked, promptTokens } = demand;
  const { ownMs, length, tokens, alone, fixedMs, rowMs } = workAt(state, demand, exit);
  const prefill = Math.min(policy.mostLoad, rate * ownMs);
  const waitMs = ((prefill / (1 - prefill)) * (ownMs + alone)) / 2;
  const roomOf = ({ budgetMs }: Arrival): number => Math.max(0, budgetMs - policy.requestOverheadMs - waitMs - ownMs);
  const accuracy = utility.accuracy(exit, promptTokens);
  const takesMs = rate * (ownMs + tokens * rowMs);
  if (mean(asked, ({ isWhole }) => Number(isWhole)) > 0.5)
    return accuracy * wholeShare(asked.map(roomOf), { tokens, alone, fixedMs, takesMs });
  const whole = takesMs < 1 ? fixedMs / (1 - takesMs) : Infinity;
  const landed = (fixedMs + rate * mean(asked, roomOf) * rowMs) / (1 - prefill);
  const tokenMs = Math.max(alone, Math.min(whole, landed));
  const served = Math.min(1, policy.mostLoad / Math.max(1e-9, rate * ownMs));
  const worthOf = (each: Arrival): number => {
    const fitting = roomOf(each) / tokenMs;
    if (fitting >= each.maxTokens) return 1;
    return each.lands ? utility.partialValue(fitting) : endsWithin(length, fitting);
  };
  return accuracy * served * mean(asked, worthOf);
}

const endsWithin = (length: LengthDistribution, tokens: number): number => 1 - length.longerThan(tokens);

interface Pace {
  readonly tokens: number;
  /** A step of one row, and the part of it that rows share. */
  readonly alone: number;
  readonly fixedMs: number;
  /** Milliseconds of prefill and rows that arrive in one. */
  readonly takesMs: number;
}

/**
 * Share of requests that are served whole or not at all. At the pace of a budget those fit that have as much time, as
 * many as the pace allows beside each other.
 */
function wholeShare(rooms: readonly number[], { tokens, alone, fixedMs, takesMs }: Pace): number {
  let most = 0;
  for (const room of rooms) {
    const tokenMs = room / tokens;
    if (tokenMs < alone) continue;
    const fitting = mean(rooms, (other) => Number(other >= room));
    most = Math.max(most, Math.min(fitting, (1 - fixedMs / tokenMs) / Math.max(1e-9, takesMs)));
  }
  return most;
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
