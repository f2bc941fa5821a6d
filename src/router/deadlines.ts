/**
 * What a budget means in instants, and what having none means in the order of service.
 *
 * Knows: budgets, arrival, policy. Must not know: costs of steps (they are passed in as numbers).
 */
import type { Budget, Policy } from './types.js';

export interface Deadlines {
  /** Latest instant of the first token. */
  readonly first: number;
  /** Latest instant of the last token. */
  readonly end: number;
  /** Mean milliseconds per token after the first. */
  readonly tpot: number;
}

/** Infinity where the budget says nothing. The request's overhead outside the engine is taken off. */
export function deadlinesOf(arrivedAt: number, budget: Budget | null, policy: Policy): Deadlines {
  const limit = (ms: number | null | undefined): number => ms ?? Infinity;
  return {
    first: arrivedAt + limit(budget?.ttftMs) - policy.requestOverheadMs,
    end: arrivedAt + limit(budget?.totalMs) - policy.requestOverheadMs,
    tpot: limit(budget?.tpotMs),
  };
}

/** Sorts by rising instant; several of them may be never. */
export function byInstant(a: number, b: number): number {
  return a === b ? 0 : a - b;
}

/** What became of an answer, as the caller sees it: instants in ms. */
export interface Finish {
  readonly arrivedAt: number;
  readonly firstTokenAt: number;
  readonly endedAt: number;
  readonly tokens: number;
}

/** Whether an answer came within all that its budget states. */
export function isWithin(budget: Budget | null, { arrivedAt, firstTokenAt, endedAt, tokens }: Finish): boolean {
  if (budget === null) return true;
  const within = (ms: number, limit: number | null): boolean => limit === null || ms <= limit;
  const tpot = tokens < 2 ? 0 : (endedAt - firstTokenAt) / (tokens - 1);
  return (
    within(endedAt - arrivedAt, budget.totalMs) &&
    within(firstTokenAt - arrivedAt, budget.ttftMs) &&
    within(tpot, budget.tpotMs)
  );
}

/** Whether a budget states anything at all. */
export function hasBudget(budget: Budget | null): budget is Budget {
  return budget !== null && (budget.totalMs !== null || budget.ttftMs !== null || budget.tpotMs !== null);
}

/**
 * When a request without a (feasible) budget should be done, so that it gets its share of the machine and never
 * starves: what takes `aloneMs` on an idle machine may take 1/share of it. Whoever arrives after that instant is
 * behind it, whatever their budget.
 */
export function virtualDeadline(arrivedAt: number, aloneMs: number, policy: Policy): number {
  return arrivedAt + aloneMs / policy.noBudgetShare;
}
