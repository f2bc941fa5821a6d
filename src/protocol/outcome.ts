/**
 * The one rule for the outcome of a request: reports, metrics, logs, margins and benches go by it.
 *
 * The end of an answer under its budget. Engine process and gateway both go by these rules.
 *
 * The one rule for whether the times of an answer are within its budget. `outcome.ts` judges the whole answer.
 */
import type { EarlyEnd, EndReason } from './index.js';
import type { Budget, SequenceRequest } from './request.js';

/**
 * From best to worst:
 * - `whole`: ended by itself, or at its `max_tokens`. `landed`: ended for its budget at a whole sentence, item, row or
 *   closed fence.
 * - `late`: one of these, but over a part of its budget. `cut`: ended in mid-text.
 * - `empty`: ended without output. `refused`: did not begin, for lack of capacity.
 */
export const OUTCOMES = ['whole', 'landed', 'late', 'cut', 'empty', 'refused'] as const;
export type Outcome = (typeof OUTCOMES)[number];

/** How an answer ended, whatever the time it took. */
export interface Ending {
  readonly end: Exclude<Outcome, 'late' | 'empty'>;
  /** Absent: it has output. */
  readonly isEmpty?: boolean;
}

/** @param limits null for a request without a budget */
export function outcomeOf({ end, isEmpty = false }: Ending, actual: BudgetTimes, limits: BudgetTimes | null): Outcome {
  if (end === 'refused') return end;
  if (isEmpty) return 'empty';
  return isWithin(actual, limits, end === 'cut') ? end : 'late';
}

/** Whether an outcome counts as a budget that is met. */
export function isKept(outcome: Outcome): outcome is 'whole' | 'landed' {
  return outcome === 'whole' || outcome === 'landed';
}

/** The outcome of a request by those of its choices; null without a choice. */
export function worstOf(outcomes: readonly Outcome[]): Outcome | null {
  return OUTCOMES.findLast((each) => outcomes.includes(each)) ?? null;
}

type Asked = Pick<SequenceRequest, 'depth' | 'stopTokens' | 'grammar'> & {
  readonly sampling: Pick<SequenceRequest['sampling'], 'logitBias'>;
};

/** A bias below this one forbids a token: the logits of a row differ by less than 40. */
const FORBIDS = -10;

/** Whether a request names no end token, or its biases forbid all of them: by their own, or by another token's. */
export function hasNoEnd({ stopTokens, sampling }: Pick<Asked, 'stopTokens' | 'sampling'>): boolean {
  const biases = new Map(sampling.logitBias);
  const others = sampling.logitBias.flatMap(([token, bias]) => (stopTokens.includes(token) ? [] : [bias]));
  const most = Math.max(0, ...others);
  return stopTokens.every((token) => (biases.get(token) ?? 0) - most < FORBIDS);
}

/** Whether an answer may end early within its budget, or why not. */
export function earlyEnd(request: Asked): EarlyEnd {
  const { grammar } = request;
  const { budget } = request.depth;
  if (budget?.totalMs == null || budget.onMiss === 'continue' || budget.onMiss === 'truncate') return 'off';
  if ((grammar ?? null) !== null && grammar?.kind !== 'free') return 'grammar';
  return hasNoEnd(request) ? 'exact_length' : 'possible';
}

/** Whether an answer ends at its deadline wherever it is: unless its budget lets it go on. */
export function isCutAtDeadline({ depth }: Pick<SequenceRequest, 'depth'>): boolean {
  return cutAt({ arrivedAt: 0, budget: depth.budget }) < Infinity;
}

/** Instant at which an answer ends wherever it is, as its client sees it; Infinity for an answer that goes on. */
export function cutAt({ arrivedAt, budget }: Pick<SequenceRequest, 'arrivedAt'> & { budget: Budget | null }): number {
  return budget?.totalMs != null && budget.onMiss !== 'continue' ? arrivedAt + budget.totalMs : Infinity;
}

/** Share of the time until its planned end that an answer has before it seeks an end. */
export const LANDING_OPENS = 0.5;

/** Whether it ended at its deadline without the end that its form needs: what there is serves no client. */
export const isUnfinished = (reason: EndReason, early: EarlyEnd | undefined): boolean =>
  reason === 'deadline' && (early === 'grammar' || early === 'exact_length');

/** Whether a budget states anything at all. */
export function hasBudget(budget: Budget | null): budget is Budget {
  if (budget === null) return false;
  const { totalMs, ttftMs, tpotMs, sentenceMs = null } = budget;
  return [totalMs, ttftMs, tpotMs, sentenceMs].some((ms) => ms !== null);
}

/** Milliseconds. Null: no limit, or a time that the answer does not have. */
export interface BudgetTimes {
  readonly totalMs: number | null;
  readonly ttftMs: number | null;
  readonly tpotMs: number | null;
  /** To the end of the first sentence. */
  readonly sentenceMs?: number | null;
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
    sentence: isOver(actual.sentenceMs ?? null, limits.sentenceMs ?? null),
  };
}

/** Whether every part holds. @param limits null for an answer without a budget. @param isCut as above */
export function isWithin(actual: BudgetTimes, limits: BudgetTimes | null, isCut = false): boolean {
  if (limits === null) return true;
  return !Object.values(missedParts(actual, limits, isCut)).includes(true);
}
