/** The one rule for the outcome of a request: reports, metrics, logs, margins and benches go by it. */
import { type BudgetTimes, isWithin } from './within-budget.js';

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
