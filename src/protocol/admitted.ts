/** The scheduler's decision for an admitted request, as clients and metrics see it. */
import type { ExitLayer } from '../engine/scheduler/cost/model.js';

/**
 * Why an answer has its exit.
 * - `deepest`: the request allows no deeper one. `budget`: a deeper one is worth less within the budget, even alone.
 * - `load`: a deeper one costs more right answers than it gives, beside the other requests.
 */
export type DepthReason = 'deepest' | 'budget' | 'load';

/**
 * - `guaranteed`: capacity is held, and the client may rely on the budget.
 * - `best_effort`: a budget that no exit has capacity for.
 * - `none`: the request states no budget.
 */
export type ServiceClass = 'guaranteed' | 'best_effort' | 'none';

/** The plan of an admitted request. Times are from its arrival. */
export interface Admitted {
  readonly kind: 'admit';
  /** Exit layer at start. */
  readonly exit: ExitLayer;
  readonly reason: DepthReason;
  readonly serviceClass: ServiceClass;
  readonly predictedTtftMs: number;
  /** Mean per token after the first. */
  readonly predictedTpotMs: number;
  /** To the last token: the median, and the bounds that hold 80% of outcomes. */
  readonly predictedMs: number;
  readonly predictedP10Ms: number;
  readonly predictedP90Ms: number;
  /** Median and 90th percentile of the output length that the plan goes by, tokens. */
  readonly expectedTokens: number;
  readonly expectedTokensP90: number;
  /** Probability that the total budget is met as planned; null without a total budget. */
  readonly probability: number | null;
}
