/** Summarizes a run from the client's point of view. */
import type { Sent as SentJob } from '../../src/load/run.js';
import { intervalShare } from '../../src/load/summary.js';
import type { Manifest } from '../../src/model/manifest.js';
import { median } from '../../src/util/stats.js';
import type { Job } from './job.js';

type Sent = SentJob<Job>;

export interface Summary {
  readonly requests: number;
  /** Share of all requests with a complete answer inside their total budget. */
  readonly attainment: number;
  /** The same among guaranteed requests; null without one. */
  readonly attainmentOfGuaranteed: number | null;
  readonly guaranteed: number | null;
  readonly byClass: Readonly<Record<string, number>>;
  /** Requests inside their budget per second. */
  readonly goodput: number;
  /** Mean over tokens of their exit's layer. */
  readonly meanExit: number;
  /** Mean over tokens of the agreement of their exit. */
  readonly meanQuality: number;
  readonly ttftP50Ms: number;
  readonly ttftP99Ms: number;
  /** Median of |actual - predicted| / predicted for the total time; null without predictions. */
  readonly predictionError: number | null;
  /** Share of answers with a total inside the predicted interval, ideally .8; null without intervals. */
  readonly insideInterval: number | null;
  /** Greatest lateness of an answer in ms. */
  readonly latestMs: number;
  readonly failed: number;
}

const share = (part: number, all: number): number => (all === 0 ? 1 : part / all);

/** Whether the answer is complete: of its exact length, or ended by the model. */
const isWhole = ({ job, answer }: Sent): boolean =>
  answer.error === null && (job.isExact ? answer.tokens === job.tokens : answer.finishReason === 'stop');

/** Whether the answer is complete and inside its budget. */
export function isMet(sent: Sent): boolean {
  return isWhole(sent) && sent.answer.totalMs <= sent.job.budgetMs;
}

/** Quality of an exit layer: its measured agreement, or without one its share of the layers. */
export function qualityIn({ exits }: Manifest): (layer: number) => number {
  const deepest = exits.at(-1)?.layer ?? 0;
  return (layer) => exits.find((exit) => exit.layer === layer)?.quality.agreement ?? layer / deepest;
}

/** @param quality of an exit layer. @param deepest the exit if the server does not report it */
export function summaryOf(sent: readonly Sent[], quality: (layer: number) => number, deepest: number): Summary {
  const guaranteed = sent.filter(({ answer }) => answer.serviceClass === 'guaranteed');
  const hasClasses = sent.some(({ answer }) => answer.serviceClass !== null);
  const names = [...new Set(sent.map(({ job }) => job.budgetClass))].sort();
  const met = sent.filter(isMet).length;
  const byExit = sent.flatMap(({ answer }) =>
    Object.entries(answer.exits ?? { [deepest]: answer.tokens }).map(
      ([layer, count]) => [Number(layer), count] as const,
    ),
  );
  const tokens = Math.max(
    1,
    byExit.reduce((sum, [, count]) => sum + count, 0),
  );
  const lastMs = sent.reduce((most, { atMs, answer }) => Math.max(most, atMs + answer.totalMs), 0);
  const ttfts = sent.flatMap(({ answer }) => answer.ttftMs ?? []).sort((a, b) => a - b);
  const errors = sent.flatMap(({ answer }) =>
    answer.predictedMs === null || answer.error !== null ? [] : Math.abs(answer.totalMs / answer.predictedMs - 1),
  );
  return {
    requests: sent.length,
    attainment: share(met, sent.length),
    attainmentOfGuaranteed: hasClasses ? share(guaranteed.filter(isMet).length, guaranteed.length) : null,
    guaranteed: hasClasses ? guaranteed.length : null,
    byClass: Object.fromEntries(
      names.map((name) => {
        const own = sent.filter(({ job }) => job.budgetClass === name);
        return [name, share(own.filter(isMet).length, own.length)];
      }),
    ),
    goodput: met / Math.max(1e-3, lastMs / 1000),
    meanExit: byExit.reduce((sum, [layer, count]) => sum + layer * count, 0) / tokens,
    meanQuality: byExit.reduce((sum, [layer, count]) => sum + quality(layer) * count, 0) / tokens,
    ttftP50Ms: median(ttfts),
    ttftP99Ms: ttfts[Math.floor(0.99 * (ttfts.length - 1))] ?? NaN,
    predictionError: errors.length === 0 ? null : median(errors),
    insideInterval: intervalShare(sent.map(({ answer }) => answer)),
    latestMs: sent.reduce((most, { job, answer }) => Math.max(most, answer.totalMs - job.budgetMs), -Infinity),
    failed: sent.filter(({ answer }) => answer.error !== null).length,
  };
}
