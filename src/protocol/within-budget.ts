/** The one rule for whether the times of an answer are within its budget. `outcome.ts` judges the whole answer. */

/** Milliseconds. Null: no limit, or a time that the answer does not have. */
export interface BudgetTimes {
  readonly totalMs: number | null;
  readonly ttftMs: number | null;
  readonly tpotMs: number | null;
}

/**
 * Lateness at which an answer that is cut at its deadline counts as cut, and not as late: timers are late on a busy
 * machine. A shorter budget allows as much as itself.
 */
const CUT_LATE_MS = 250;

/** An answer as its client sees it: instants in ms. */
export interface Finish {
  readonly arrivedAt: number;
  readonly firstTokenAt: number;
  readonly endedAt: number;
  readonly tokens: number;
}

/** The times of an answer. One token has no TPOT. */
export function timesOf({ arrivedAt, firstTokenAt, endedAt, tokens }: Finish): BudgetTimes {
  return {
    totalMs: endedAt - arrivedAt,
    ttftMs: firstTokenAt - arrivedAt,
    tpotMs: tokens < 2 ? null : (endedAt - firstTokenAt) / (tokens - 1),
  };
}

/** @param isCut whether the answer was cut at its deadline */
export function missedParts(actual: BudgetTimes, limits: BudgetTimes, isCut = false) {
  const isOver = (time: number | null, limit: number | null): boolean => (time ?? 0) > (limit ?? Infinity);
  const { totalMs } = limits;
  const lateMs = isCut && totalMs !== null ? Math.min(CUT_LATE_MS, totalMs) : 0;
  return {
    total: isOver(actual.totalMs, totalMs === null ? null : totalMs + lateMs),
    ttft: isOver(actual.ttftMs, limits.ttftMs),
    tpot: isOver(actual.tpotMs, limits.tpotMs),
  };
}

/** Whether every part holds. @param limits null for an answer without a budget. @param isCut as above */
export function isWithin(actual: BudgetTimes, limits: BudgetTimes | null, isCut = false): boolean {
  if (limits === null) return true;
  const { total, ttft, tpot } = missedParts(actual, limits, isCut);
  return !total && !ttft && !tpot;
}
