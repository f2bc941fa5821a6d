/**
 * The end of an answer under its budget. Engine process and gateway both go by these rules.
 *
 * Must not know: text, clocks, the scheduler.
 */
import type { EarlyEnd } from './index.js';
import type { Budget, SequenceRequest } from './request.js';

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
