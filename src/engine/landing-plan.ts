/**
 * The end of an answer under its budget. Engine process and gateway both go by these rules.
 *
 * Must not know: text, clocks, the router.
 */
import { cutAt } from '../router/index.js';
import type { GenerateMessage, LandingPlan } from './protocol.js';

type Asked = Pick<GenerateMessage, 'depth' | 'stopTokens' | 'grammar'>;

/** Whether an answer may end early within its budget, or why not. */
export function landingPlan({ depth: { budget }, stopTokens, grammar }: Asked): LandingPlan {
  if (budget?.totalMs == null || budget.onMiss === 'continue' || budget.onMiss === 'truncate') return 'off';
  if ((grammar ?? null) !== null && grammar?.kind !== 'free') return 'grammar';
  return stopTokens.length === 0 ? 'exact_length' : 'possible';
}

/** Whether an answer ends at its deadline wherever it is: with `truncate`, and as the last resort of a landing. */
export function isCutAtDeadline(request: Asked): boolean {
  const lands = landingPlan(request) === 'possible';
  return cutAt({ arrivedAt: 0, budget: request.depth.budget, lands }) < Infinity;
}
