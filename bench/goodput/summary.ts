/** Summarizes a run with the scores of its answers. */
import type { Sent as SentJob } from '../loadgen/run.js';
import { isMet, meanOf, type Summary as RunSummary, summaryOf as runSummaryOf } from '../loadgen/summary.js';
import type { GoodputAnswer, Job } from './job.js';

export type Sent = SentJob<Job, GoodputAnswer>;

export interface Summary extends RunSummary {
  /** Share of requests with a whole or landed answer inside their budget. */
  readonly inTime: number;
  /** Mean score of the answers, whenever they end. */
  readonly right: number;
  /** The same, where a late answer counts 0, and its standard deviation. */
  readonly rightInTime: number;
  readonly deviation: number;
  /** Mean tokens of an answer. */
  readonly tokens: number;
}

export function summaryOf(sent: readonly Sent[]): Summary {
  const timely = sent.map((each) => Number(isMet(each)));
  const values = sent.map(({ answer: { right } }, i) => (timely[i] ?? 0) * right);
  const rightInTime = meanOf(values);
  return {
    ...runSummaryOf(sent),
    inTime: meanOf(timely),
    right: meanOf(sent.map(({ answer }) => answer.right)),
    rightInTime,
    deviation: Math.sqrt(meanOf(values.map((value) => (value - rightInTime) ** 2))),
    tokens: meanOf(sent.map(({ answer }) => answer.tokens)),
  };
}
