/**
 * The end of an answer under its budget. Engine process and gateway both go by these rules.
 *
 * Must not know: text, clocks, the scheduler.
 */
import type { EarlyEnd } from './index.js';
import type { Budget, SequenceRequest } from './request.js';

type Asked = Pick<SequenceRequest, 'depth' | 'stopTokens' | 'grammar'>;

/** Whether an answer may end early within its budget, or why not. */
export function earlyEnd({ depth: { budget }, stopTokens, grammar }: Asked): EarlyEnd {
  if (budget?.totalMs == null || budget.onMiss === 'continue' || budget.onMiss === 'truncate') return 'off';
  if ((grammar ?? null) !== null && grammar?.kind !== 'free') return 'grammar';
  return stopTokens.length === 0 ? 'exact_length' : 'possible';
}

/** Whether an answer ends at its deadline wherever it is: with `truncate`, and as the last resort of a landing. */
export function isCutAtDeadline(request: Asked): boolean {
  const lands = earlyEnd(request) === 'possible';
  return cutAt({ arrivedAt: 0, budget: request.depth.budget, lands }) < Infinity;
}

/** Instant at which an answer ends wherever it is, as its client sees it; Infinity for an answer that goes on. */
export function cutAt(answer: {
  readonly arrivedAt: number;
  readonly budget: Budget | null;
  readonly lands: boolean;
}): number {
  const { arrivedAt, budget, lands } = answer;
  return budget?.totalMs != null && (lands || budget.onMiss === 'truncate') ? arrivedAt + budget.totalMs : Infinity;
}

/** Whether a budget states anything at all. */
export function hasBudget(budget: Budget | null): budget is Budget {
  return budget !== null && (budget.totalMs !== null || budget.ttftMs !== null || budget.tpotMs !== null);
}
