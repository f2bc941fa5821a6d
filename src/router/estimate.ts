/**
 * What a forecast is worth: predictions of a whole answer, mended by how earlier ones turned out.
 *
 * Knows: forecasts, a few facts of their requests, what came of them. Must not know: requests, clocks.
 *
 * A forecast knows who is there, not who comes. What arrivals do to an answer depends on its budget (who has time
 * yields) and on how tight things are, and differs from machine to machine, so it is learnt: recursive least squares on
 * the logarithm of actual over forecast, old answers fading; logarithms, so that the estimate is of the median.
 */

/** What an estimate goes by; kept until the answer has ended, to learn from. */
export interface Outlook {
  /** What the batch as it is lets expect, ms. */
  readonly forecastMs: number;
  /** The request alone on the machine at its deepest exit, ms. */
  readonly aloneMs: number;
  /** Its total budget, ms; Infinity where it has none. */
  readonly budgetMs: number;
  /** How many times the budget holds the work that is due by then (agenda.ts); Infinity without a budget. */
  readonly room: number;
}

export interface Estimate {
  readonly weights: readonly number[];
  /** How uncertain the weights are: a symmetric matrix, row after row. */
  readonly spread: readonly number[];
}

const FACTS = 5;
/** An answer counts half after about 140 more. */
const FADE = 0.995;
/** Nothing is learnt from what is wrong by more than this factor beyond the factor itself: some answers are odd. */
const ODD = Math.log(2.7);
/** No forecast is wrong by more than that as a rule. */
const MOST = Math.log(4);
/** Uncertainty that fading may not exceed: traffic that stays the same would let it grow without end. */
const SPREAD_LIMIT = 50;

export const noEstimate: Estimate = {
  weights: new Array<number>(FACTS).fill(0),
  spread: Array.from({ length: FACTS * FACTS }, (_, i) => (i % (FACTS + 1) === 0 ? 1 : 0)),
};

const clamp = (value: number, limit: number): number => Math.min(limit, Math.max(-limit, value));

function factsOf({ forecastMs, aloneMs, budgetMs, room }: Outlook): number[] {
  const alone = Math.max(1e-3, aloneMs);
  return [
    1,
    clamp(Math.log(Math.max(1e-3, forecastMs) / alone), 4),
    clamp(Math.log(Math.min(budgetMs, 10 * alone) / alone), 4),
    Math.log(alone / 300),
    clamp(Math.log(Math.min(20, Math.max(0.05, room))), 4),
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
  const { weights, spread } = estimate;
  const facts = factsOf(outlook);
  const error = clamp(Math.log(actualMs / outlook.forecastMs) - dot(weights, facts), ODD);
  const reach = facts.map((_, i) => dot(spread.slice(i * FACTS, (i + 1) * FACTS), facts));
  const weight = FADE + dot(facts, reach);
  const gain = reach.map((value) => value / weight);
  const next = spread.map((value, at) => {
    return (value - (gain[Math.floor(at / FACTS)] ?? 0) * (reach[at % FACTS] ?? 0)) / FADE;
  });
  const whole = facts.reduce((sum, _, i) => sum + (next[i * (FACTS + 1)] ?? 0), 0);
  const shrink = Math.min(1, (SPREAD_LIMIT * FACTS) / whole);
  return {
    weights: weights.map((value, i) => value + (gain[i] ?? 0) * error),
    spread: next.map((value) => value * shrink),
  };
}
