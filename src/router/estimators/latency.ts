/**
 * Predictions: the forecast of the current batch times a correction, and the interval that holds 80% of outcomes.
 *
 * A forecast knows the present requests, not the arrivals to come. Two quantiles of the remaining error are tracked.
 */

import type { Forecast } from '../types.js';

/** Offsets of the 10% and 90% bounds of a total, in log space. */
export interface Offsets {
  readonly low: number;
  readonly high: number;
}

/** Correction of a forecast in log space: always, for each e-fold beyond the budget, for each e-fold of arrivals. */
const BIAS = -0.1;
const BEYOND_BUDGET = -0.8;
const ARRIVALS = 0.2;
/** Most that a forecast or a bound is corrected by, in log space. */
const MOST = Math.log(4);
/** Step of the quantile tracking, in log space. */
const BOUND_STEP = 0.1;

const clamp = (value: number): number => Math.min(MOST, Math.max(-MOST, value));

/** Median milliseconds of an answer: beyond the budget depth gives way, and arrivals delay it. */
export function predictedMs({ totalMs, budgetMs, arrivals }: Forecast): number {
  const beyond = Math.min(4, Math.log(Math.max(1, totalMs / budgetMs)));
  return totalMs * Math.exp(clamp(BIAS + BEYOND_BUDGET * beyond + ARRIVALS * Math.log1p(Math.min(20, arrivals))));
}

/** Learns whether an answer took less than the bounds that were predicted for it. */
export function observeBounds({ low, high }: Offsets, p10Ms: number, p90Ms: number, actualMs: number): Offsets {
  return {
    low: clamp(low + BOUND_STEP * (actualMs < p10Ms ? -0.9 : 0.1)),
    high: clamp(high + BOUND_STEP * (actualMs < p90Ms ? -0.1 : 0.9)),
  };
}
