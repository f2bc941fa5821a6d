/**
 * The load: arrivals that are to be expected, and the deepest exit of new answers with which the most right answers are
 * in time at that rate. Landings shorten the answers of a busy machine by themselves; depth gives way where that is not
 * enough.
 *
 * Rows share steps, so the depth of one row is paid by all: one bound for all is worth more than a choice for each.
 *
 * The batch counts as a fluid. Requests arrive at rate l; each takes s ms of prefill and m tokens, and a step takes f
 * ms and r ms a row. Rows in the batch are b = l m t, with t = (f + r b) / (1 - l s) the time of a token. So t = f / (1
 * - l (s + m r)), as long as the load l (s + m r) is below 1. Near it a token takes long, so answers get short.
 */
import { type ExitIndex, at, deepestOf } from './cost/model.js';
import { promptMs } from './cost/step-costs.js';
import { type Policy, plannedChunk } from './policy.js';
import type { Snapshot } from './snapshot.js';

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

/** The requests that are to be expected. */
export interface Expected {
  /** Requests with a total budget per millisecond. */
  readonly rate: number;
  /** Length of a prompt, and the positions of it to prefill. */
  readonly promptTokens: number;
  readonly positions: number;
  /** The terms of the last ones. */
  readonly asked: readonly Asked[];
}

type Terms = Pick<Arrival, 'budgetMs' | 'maxTokens' | 'lands'>;

/** Equal terms of several requests: they are forecast once. */
interface Asked extends Terms {
  readonly count: number;
}

/**
 * A tenant counts for no more arrivals than all others together, so a flood of one tenant makes no other one shallower
 * than its own load does.
 * @param arrivals in order
 */
export function expectedAt(arrivals: readonly Arrival[], now: number, policy: Policy): Expected {
  const recent = shared(arrivals.filter(({ at }) => now - at < policy.arrivalWindowMs));
  const [first] = recent;
  if (first === undefined) return { rate: 0, promptTokens: 0, positions: 0, asked: [] };
  return {
    rate: recent.length / Math.max(policy.arrivalLeastMs, now - first.at),
    promptTokens: mean(recent, ({ promptTokens }) => promptTokens),
    positions: mean(recent, ({ positions }) => positions),
    asked: counted(recent.slice(-policy.arrivalBudgets)),
  };
}

function counted(all: readonly Terms[]): readonly Asked[] {
  const found: (Terms & { count: number })[] = [];
  for (const { budgetMs, maxTokens, lands } of all) {
    const same = found.find((each) => {
      return each.budgetMs === budgetMs && each.maxTokens === maxTokens && each.lands === lands;
    });
    if (same === undefined) found.push({ budgetMs, maxTokens, lands, count: 1 });
    else same.count += 1;
  }
  return found;
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

/** Right answers in time per millisecond, by exit: sums over steps, which fade, and the steps in them. */
export interface DepthValues {
  readonly at: number;
  readonly sums: ReadonlyMap<ExitIndex, { readonly sum: number; readonly steps: number }>;
}

export const NO_VALUES: DepthValues = { at: -Infinity, sums: new Map() };

/**
 * The bound follows the mean of the values of steps, which fade over `depthMeanMs`. Each arrival moves the values, and
 * rows of unlike depths slow each other: the bound of an instant changes several times a second at a steady load.
 * @param past values up to an earlier step
 * @returns the deepest exit of an answer that begins, full depth for a lone request; the values up to this step
 */
export function depthBound(
  state: Snapshot,
  expected: Expected,
  past: DepthValues = NO_VALUES,
): { readonly deepest: ExitIndex; readonly values: DepthValues } {
  const deepest = deepestOf(state.model.shape);
  const demand = demandOf(state, expected);
  if (demand === null || demand.rate === 0) return { deepest, values: past };
  const kept = Math.exp(-Math.max(0, state.now - past.at) / state.policy.depthMeanMs);
  const sums = new Map(
    [...past.sums].map(([exit, { sum, steps }]) => [exit, { sum: kept * sum, steps: kept * steps }]),
  );
  let full = 0;
  let best: ExitIndex = demand.minExit;
  let most = 0;
  for (let exit = deepest; exit >= Math.min(deepest, demand.minExit); exit -= 1) {
    const before = sums.get(exit) ?? { sum: 0, steps: 0 };
    const sum = before.sum + demand.rate * valueAt(state, demand, exit);
    const steps = before.steps + 1;
    sums.set(exit, { sum, steps });
    const mean = sum / steps;
    if (exit === deepest) full = mean;
    if (mean > most * (1 + state.policy.depthGain)) [best, most] = [exit, mean];
  }
  const values = { at: state.now, sums };
  // If the shallower bound also wins at rate 0, load is not the cause: each request chooses within its own budget.
  const idle = (exit: ExitIndex): number => valueAt(state, { ...demand, rate: 0 }, exit);
  if (most === 0) return { deepest: idle(deepest) > 0 ? best : deepest, values };
  const isLoad = most / full > (idle(best) / idle(deepest)) * (1 + state.policy.depthGain);
  return { deepest: isLoad ? best : deepest, values };
}

interface Demand extends Expected {
  readonly minExit: ExitIndex;
}

/** The demand on the machine: arrivals, and present prompts that are due within a typical budget. */
function demandOf({ requests }: Snapshot, expected: Expected): Demand | null {
  const present = requests.filter(({ hasDeadline, deadlines }) => hasDeadline && deadlines.end < Infinity);
  const budgets = expected.asked
    .flatMap(({ budgetMs, count }) => Array.from({ length: count }, () => budgetMs))
    .sort((a, b) => a - b);
  if (present.length < 2 || budgets.length === 0) return null;
  const prompts = present.filter((each) => each.isBeginning && each.isReachable).length;
  // One prompt is the request itself.
  const backlog = Math.max(0, prompts - 1) / at(budgets, budgets.length >> 1);
  const minExit = Math.min(...present.map((each) => each.minExit));
  return { ...expected, rate: expected.rate + backlog, minExit };
}

/** Right answers in time, as a share of the arrivals. */
function valueAt(state: Snapshot, { rate, promptTokens, positions, asked }: Demand, exit: ExitIndex): number {
  const { model, policy, utility } = state;
  const prefillMs = promptMs(model, exit, Math.max(1, positions), plannedChunk(policy)) * (1 + policy.margin);
  const { fixedMs, rowMs } = at(state.costs, exit);
  const distribution = at(state.lengths.of('chat'), exit);
  let tokenMs = fixedMs + rowMs;
  let served = 1;
  let waitMs = 0;
  const fitting = (budgetMs: number): number =>
    Math.max(0, (budgetMs - policy.requestOverheadMs - waitMs - prefillMs) / tokenMs);
  for (let round = 0; round < policy.fluidRounds; round += 1) {
    const fittingOf = ({ budgetMs, maxTokens }: Asked): number =>
      distribution.meanLeft(0, Math.min(maxTokens, fitting(budgetMs)));
    const tokens = mean(asked, fittingOf, countOf);
    const load = rate * (prefillMs + tokens * rowMs);
    served = Math.min(1, policy.mostLoad / load);
    const next = Math.max(fixedMs + rowMs, fixedMs / (1 - served * load));
    tokenMs = (tokenMs + next) / 2;
    const prefill = Math.min(policy.mostLoad, served * rate * prefillMs);
    waitMs = ((prefill / (1 - prefill)) * (prefillMs + tokenMs)) / 2;
  }
  const worthOf = ({ budgetMs, maxTokens, lands }: Asked): number => {
    const tokens = fitting(budgetMs);
    if (tokens >= maxTokens) return 1;
    return lands ? utility.partialValue(tokens) : 1 - distribution.longerThan(tokens);
  };
  return utility.accuracy(exit, promptTokens) * served * mean(asked, worthOf, countOf);
}

const countOf = ({ count }: Asked): number => count;

/** @param times how often a value counts */
function mean<T>(values: readonly T[], of: (value: T) => number, times: (value: T) => number = () => 1): number {
  let sum = 0;
  let count = 0;
  for (const value of values) {
    sum += times(value) * of(value);
    count += times(value);
  }
  return sum / count;
}
