/** Summarizes a run with the scores of its answers. */
import type { Sent as SentJob } from '../loadgen/run.js';
import { isMet, meanOf, type Summary as RunSummary, summaryOf as runSummaryOf } from '../loadgen/summary.js';
import type { GoodputAnswer, Job } from './job.js';

export type Sent = SentJob<Job, GoodputAnswer>;

export interface Summary extends RunSummary {
  /** Share of requests with a whole or landed answer inside their budget. */
  readonly inTime: number;
  /** Mean score of the answers, whenever they end; null for questions without a check. */
  readonly right: number | null;
  /** The same, where a late answer counts 0. */
  readonly rightInTime: number | null;
  /** Standard deviation of a request's score in time, or of its being in time where it has no check. */
  readonly deviation: number;
  /** Share of requests whose prompt the server gave a hint. */
  readonly hinted: number;
  /** Share of requests whose prompt left at the prompt exit. */
  readonly promptExits: number;
  /** Mean tokens of an answer. */
  readonly tokens: number;
}

export function summaryOf(sent: readonly Sent[]): Summary {
  const timely = sent.map((each) => Number(isMet(each)));
  const scores = sent.flatMap(({ answer: { right } }) => right ?? []);
  const values = sent.map(({ answer: { right } }, i) => (timely[i] ?? 0) * (right ?? 1));
  const isScored = scores.length > 0;
  return {
    ...runSummaryOf(sent),
    inTime: meanOf(timely),
    right: isScored ? meanOf(scores) : null,
    rightInTime: isScored ? meanOf(values) : null,
    deviation: Math.sqrt(meanOf(values.map((value) => (value - meanOf(values)) ** 2))),
    hinted: meanOf(sent.map(({ answer }) => Number(answer.isHinted === true))),
    promptExits: meanOf(sent.map(({ answer }) => Number(answer.isPromptExit === true))),
    tokens: meanOf(sent.map(({ answer }) => answer.tokens)),
  };
}
