/**
 * What a run came to, from the client's side.
 *
 * Knows: answers, budgets, quality of exits. Must not know: servers.
 */
import { median } from '../stats.js';
import type { Sent } from './load.js';

export interface Summary {
  readonly requests: number;
  /** Share of all requests that came whole and inside their total budget. */
  readonly attainment: number;
  /** The same among those that the server said were feasible; null where it doesn't say. */
  readonly attainmentOfFeasible: number | null;
  readonly feasible: number | null;
  readonly byClass: Readonly<Record<string, number>>;
  /** Requests inside their budget per second. */
  readonly goodput: number;
  /** Mean over tokens of the agreement of their exit. */
  readonly meanQuality: number;
  readonly ttftP50Ms: number;
  readonly ttftP99Ms: number;
  /** Median of |actual - predicted| / predicted of the total; null where nothing was predicted. */
  readonly predictionError: number | null;
  /** Most milliseconds by which an answer was late. */
  readonly latestMs: number;
  readonly failed: number;
}

const share = (part: number, all: number): number => (all === 0 ? 1 : part / all);

export function isMet({ request, answer }: Sent): boolean {
  return (
    answer.status === 200 &&
    answer.tokens === request.maxTokens &&
    answer.totalMs <= (request.budget?.totalMs ?? Infinity)
  );
}

/** @param quality of an exit layer; `deepest` where the server doesn't say which exit it used */
export function summaryOf(sent: readonly Sent[], quality: (layer: number) => number, deepest: number): Summary {
  const feasible = sent.filter(({ answer }) => answer.feasible === true);
  const told = sent.some(({ answer }) => answer.feasible !== null);
  const names = [...new Set(sent.map(({ request }) => request.budgetClass))].sort();
  const met = sent.filter(isMet).length;
  let tokens = 0;
  let sum = 0;
  for (const { answer } of sent) {
    for (const [layer, count] of Object.entries(answer.exits ?? { [deepest]: answer.tokens })) {
      tokens += count;
      sum += count * quality(Number(layer));
    }
  }
  const lastMs = sent.reduce((most, { request, answer }) => Math.max(most, request.arrivedAt + answer.totalMs), 0);
  const ttfts = sent.flatMap(({ answer }) => answer.ttftMs ?? []).sort((a, b) => a - b);
  const errors = sent.flatMap(({ answer }) =>
    answer.predictedMs === null || answer.status !== 200 ? [] : Math.abs(answer.totalMs / answer.predictedMs - 1),
  );
  return {
    requests: sent.length,
    attainment: share(met, sent.length),
    attainmentOfFeasible: told ? share(feasible.filter(isMet).length, feasible.length) : null,
    feasible: told ? feasible.length : null,
    byClass: Object.fromEntries(
      names.map((name) => {
        const own = sent.filter(({ request }) => request.budgetClass === name);
        return [name, share(own.filter(isMet).length, own.length)];
      }),
    ),
    goodput: met / Math.max(1e-3, lastMs / 1000),
    meanQuality: sum / Math.max(1, tokens),
    ttftP50Ms: median(ttfts),
    ttftP99Ms: ttfts[Math.floor(0.99 * (ttfts.length - 1))] ?? NaN,
    predictionError: errors.length === 0 ? null : median(errors),
    latestMs: sent.reduce(
      (most, { request, answer }) => Math.max(most, answer.totalMs - (request.budget?.totalMs ?? Infinity)),
      -Infinity,
    ),
    failed: sent.filter(({ answer }) => answer.status !== 200).length,
  };
}
