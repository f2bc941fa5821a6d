/**
 * What a forecast is worth: predictions of a whole answer, mended by how earlier ones turned out.
 *
 * Knows: forecasts, a few facts of their requests, what came of them. Must not know: requests, clocks.
 *
 * A forecast knows who is there, not who comes. What arrivals do to an answer depends on its budget (who has time
 * yields) and on how tight things are, and differs from machine to machine, so it is learnt: a linear model of the
 * logarithm of actual over forecast, moved a little by each answer, by its sign where it is far off. So it settles at the
 * median, and a few odd answers can't move it, as they moved the least squares that stood here before.
 */

/** What an estimate goes by; kept until the answer has ended, to learn from. */
export interface Outlook {
  /** What the batch as it is lets expect, ms. */
  readonly forecastMs: number;
  /** The request alone on the machine at its deepest exit, ms. */
  readonly aloneMs: number;
  /** ... and at the exit that it begins with, ms. */
  readonly depthMs: number;
  /** Its total budget, ms; Infinity where it has none. */
  readonly budgetMs: number;
  /** How many times the budget holds the work that is due by then (agenda.ts); Infinity without a budget. */
  readonly room: number;
  /** Arrivals that are expected until then, for each who is there, itself included. */
  readonly coming: number;
}

export interface Estimate {
  readonly weights: readonly number[];
}

const FACTS = 7;
/** What an answer that is far off moves the estimate of its like by: 1%. */
const STEP = 0.01;
/** An answer is far off beyond that (a logarithm: 20%); within it, it moves the estimate the less. */
const FAR = 0.2;
/** No forecast is wrong by more than that as a rule. */
const MOST = Math.log(4);

export const noEstimate: Estimate = { weights: new Array<number>(FACTS).fill(0) };

/**
 * What totals begin with, fitted to simulations of other traffic than any that is reported (eight kinds, pooled). What they
 * agree on is that a forecast beyond the budget comes to no more than the budget, since depth gives way, and that
 * arrivals take longer than nothing.
 */
export const firstTotal: Estimate = { weights: [-0.12, -0.11, 0.07, -0.02, 0, -0.8, 0.2] };

const clamp = (value: number, limit: number): number => Math.min(limit, Math.max(-limit, value));

function factsOf({ forecastMs, aloneMs, depthMs, budgetMs, room, coming }: Outlook): number[] {
  const alone = Math.max(1e-3, aloneMs);
  return [
    1,
    clamp(Math.log(Math.max(1e-3, forecastMs) / alone), 4),
    clamp(Math.log(Math.min(budgetMs, 10 * alone) / alone), 4),
    clamp(Math.log(Math.max(1e-3, depthMs) / alone), 4),
    clamp(Math.log(Math.min(20, Math.max(0.05, room))), 4),
    clamp(Math.log(Math.max(1, forecastMs / budgetMs)), 4),
    Math.log1p(Math.min(20, coming)),
  ];
}

const dot = (a: readonly number[], b: readonly number[]): number =>
  a.reduce((sum, value, i) => sum + value * (b[i] ?? 0), 0);

/** Milliseconds that an answer takes, as likely less as more. */
export function estimateMs({ weights }: Estimate, outlook: Outlook): number {
  return outlook.forecastMs * Math.exp(clamp(dot(weights, factsOf(outlook)), MOST));
}

/** Learns what became of an answer. */
export function observeEstimate(estimate: Estimate, outlook: Outlook, actualMs: number): Estimate {
  if (!(actualMs > 0) || !(outlook.forecastMs > 0)) return estimate;
  const { weights } = estimate;
  const facts = factsOf(outlook);
  const error = Math.log(actualMs / outlook.forecastMs) - dot(weights, facts);
  const by = (STEP * clamp(error, FAR)) / FAR / dot(facts, facts);
  return { weights: weights.map((value, i) => value + by * (facts[i] ?? 0)) };
}
