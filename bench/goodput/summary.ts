/** Summarizes a run from the client's point of view. */
import type { Sent as SentJob } from '../../src/load/run.js';
import { durationMs } from '../../src/load/run.js';
import { median, quantile } from '../../src/util/stats.js';
import type { GoodputAnswer, Job } from './job.js';

export type Sent = SentJob<Job, GoodputAnswer>;

export interface Summary {
  readonly requests: number;
  /** Share of requests with an answer inside their budget. */
  readonly inTime: number;
  /** Mean score of the answers, whenever they end; null for questions without a check. */
  readonly right: number | null;
  /** The same, where a late answer counts 0. */
  readonly rightInTime: number | null;
  /** Standard deviation of a request's score in time, or of its being in time where it has no check. */
  readonly deviation: number;
  /** Share of answers that the server ended early within their budget. */
  readonly landed: number;
  /** Share of answers that a limit cut. */
  readonly cut: number;
  /** Mean tokens of an answer. */
  readonly tokens: number;
  /** Mean over tokens of their exit's layer. */
  readonly meanExit: number;
  /** Requests by service class; empty for a server without classes. */
  readonly classes: Readonly<Record<string, number>>;
  /** Share of guaranteed requests with an answer inside their budget; null without one. */
  readonly kept: number | null;
  readonly ttftP50Ms: number;
  readonly ttftP99Ms: number;
  readonly failed: number;
  /** Seconds from the first arrival to the last answer. */
  readonly seconds: number;
}

const mean = (values: readonly number[]): number =>
  values.reduce((sum, value) => sum + value, 0) / Math.max(1, values.length);

/** Whether the answer is inside its budget, by the client's clock. */
export function isInTime({ job, answer }: Sent): boolean {
  return answer.error === null && answer.totalMs <= job.budgetMs;
}

/** @param deepest the exit if the server does not report it */
export function summaryOf(sent: readonly Sent[], deepest: number): Summary {
  const timely = (each: Sent): number => Number(isInTime(each));
  const scored = sent.filter(({ answer }) => answer.right !== null);
  const values = sent.map((each) => timely(each) * (each.answer.right ?? 1));
  const byExit = sent.flatMap(({ answer }) =>
    Object.entries(answer.exits ?? { [deepest]: answer.tokens }).map(([layer, n]) => [Number(layer), n] as const),
  );
  const tokens = byExit.reduce((sum, [, count]) => sum + count, 0);
  const guaranteed = sent.filter(({ answer }) => answer.serviceClass === 'guaranteed');
  const ttfts = sent.flatMap(({ answer }) => answer.ttftMs ?? []);
  const classes = sent.flatMap(({ answer }) => answer.serviceClass ?? []);
  return {
    requests: sent.length,
    inTime: mean(sent.map(timely)),
    right: scored.length === 0 ? null : mean(scored.map(({ answer }) => answer.right ?? 0)),
    rightInTime: scored.length === 0 ? null : mean(values),
    deviation: Math.sqrt(mean(values.map((value) => (value - mean(values)) ** 2))),
    landed: mean(sent.map(({ answer }) => Number(answer.isLanded))),
    cut: mean(sent.map(({ answer }) => Number(answer.finishReason === 'length'))),
    tokens: mean(sent.map(({ answer }) => answer.tokens)),
    meanExit: byExit.reduce((sum, [layer, count]) => sum + layer * count, 0) / Math.max(1, tokens),
    classes: Object.fromEntries(
      [...new Set(classes)].sort().map((name) => [name, classes.filter((each) => each === name).length]),
    ),
    kept: guaranteed.length === 0 ? null : mean(guaranteed.map(timely)),
    ttftP50Ms: median(ttfts),
    ttftP99Ms: quantile(ttfts, 0.99),
    failed: sent.filter(({ answer }) => answer.error !== null).length,
    seconds: durationMs(sent) / 1000,
  };
}
