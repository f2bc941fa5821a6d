/** Summarizes a run of a bench from the client's point of view. */
import { quantile } from '../util/stats.js';
import { isWithin } from '../util/within-budget.js';
import type { Answered } from './ask.js';
import type { Budget } from './budgets.js';
import type { BenchJob } from './jobs.js';
import { durationMs, type Sent } from './run.js';

export interface Spread {
  readonly p50: number;
  readonly p95: number;
}

export interface ClassSummary {
  readonly name: string;
  /** Null for all classes together. */
  readonly budget: Budget | null;
  readonly requests: number;
  /** Share of all requests with a complete answer inside the budget. */
  readonly attainment: number;
  /** Share of all requests whose answer ended early to keep its budget; null if the server does not report it. */
  readonly landed: number | null;
  /** Requests without a complete answer from the server, and answers that a limit of the server cut. */
  readonly failed: number;
  readonly cut: number;
  /** Times of answers without a failure, from the scheduled arrival; null without one. */
  readonly ttftMs: Spread | null;
  readonly tpotMs: Spread | null;
  readonly totalMs: Spread | null;
}

export interface Summary extends ClassSummary {
  readonly seconds: number;
  /** Requests inside their budget per second. */
  readonly goodput: number;
  readonly tokensPerSecond: number;
  /** |predicted - actual| / actual of the total time and of the TTFT; null without predictions. */
  readonly predictionError: { readonly total: Spread; readonly ttft: Spread | null } | null;
  /** Share of answers with a total inside the predicted 10% to 90% interval, ideally .8; null without intervals. */
  readonly insideInterval: number | null;
  /** Share of the tokens by exit layer, and their mean; null if the server does not report exits. */
  readonly exits: Readonly<Record<string, number>> | null;
  readonly meanExit: number | null;
  /** Share of the answers by the reason of their depth; null if the server does not report it. */
  readonly reasons: Readonly<Record<string, number>> | null;
  /** Failed requests by kind. */
  readonly errors: Readonly<Record<string, number>>;
  /** Delay of the client itself between scheduled arrival and sending. */
  readonly lagMs: Spread | null;
  readonly classes: readonly ClassSummary[];
}

const share = (part: number, all: number): number => (all === 0 ? 1 : part / all);

/** Median and 95th percentile; null without values. */
export function spreadOf(values: readonly number[]): Spread | null {
  return values.length === 0 ? null : { p50: quantile(values, 0.5), p95: quantile(values, 0.95) };
}

/** Whether a limit that the request does not state cut the answer. */
function isCut({ job, answer }: Sent<BenchJob>): boolean {
  return answer.finishReason === 'length' && (job.maxTokens === null || answer.tokens < job.maxTokens);
}

/** Whether the answer is complete and inside every part of its budget. */
export function isMet(sent: Sent<BenchJob>): boolean {
  const { budget } = sent.job;
  const { error, totalMs, ttftMs, tpotMs } = sent.answer;
  return error === null && !isCut(sent) && isWithin({ totalMs, ttftMs: ttftMs ?? totalMs, tpotMs }, budget);
}

/** Share of answers with a total between the predicted 10% and 90% quantiles; null without intervals. */
export function intervalShare(answers: readonly Answered[]): number | null {
  const inside = answers.flatMap(({ error, totalMs, predictedP10Ms: from, predictedP90Ms: to }) =>
    error !== null || from === null || to === null ? [] : from <= totalMs && totalMs <= to,
  );
  return inside.length === 0 ? null : share(inside.filter((isInside) => isInside).length, inside.length);
}

/** Relative errors of a predicted time. */
function errorsOf(answers: readonly Answered[], times: (answer: Answered) => (number | null)[]): Spread | null {
  return spreadOf(
    answers.flatMap((answer) => {
      const [predicted, actual] = times(answer);
      return predicted == null || actual == null || actual <= 0 ? [] : Math.abs(predicted - actual) / actual;
    }),
  );
}

export function summaryOf(sent: readonly Sent<BenchJob>[]): Summary {
  const answered = sent.map(({ answer }) => answer).filter(({ error }) => error === null);
  const seconds = durationMs(sent) / 1000;
  const perSecond = (count: number): number => (seconds === 0 ? 0 : count / seconds);
  const total = errorsOf(answered, ({ predictedMs, totalMs }) => [predictedMs, totalMs]);
  const ttft = errorsOf(answered, ({ predictedTtftMs, ttftMs }) => [predictedTtftMs, ttftMs]);
  const names = [...new Set(sent.map(({ job }) => job.budgetClass))];
  return {
    ...classSummary('all', sent),
    budget: null,
    seconds,
    goodput: perSecond(sent.filter(isMet).length),
    tokensPerSecond: perSecond(answered.reduce((sum, { tokens }) => sum + tokens, 0)),
    predictionError: total === null ? null : { total, ttft },
    insideInterval: intervalShare(answered),
    ...depthOf(answered),
    reasons: reasonsOf(answered),
    errors: errorCounts(sent),
    lagMs: spreadOf(sent.map(({ answer }) => answer.lagMs)),
    classes: names.sort().map((name) =>
      classSummary(
        name,
        sent.filter(({ job }) => job.budgetClass === name),
      ),
    ),
  };
}

function classSummary(name: string, sent: readonly Sent<BenchJob>[]): ClassSummary {
  const answered = sent.map(({ answer }) => answer).filter(({ error }) => error === null);
  return {
    name,
    budget: sent[0]?.job.budget ?? null,
    requests: sent.length,
    attainment: share(sent.filter(isMet).length, sent.length),
    landed: landedShare(answered, sent.length),
    failed: sent.length - answered.length,
    cut: sent.filter(isCut).length,
    ttftMs: spreadOf(answered.flatMap(({ ttftMs }) => ttftMs ?? [])),
    tpotMs: spreadOf(answered.flatMap(({ tpotMs }) => tpotMs ?? [])),
    totalMs: spreadOf(answered.map(({ totalMs }) => totalMs)),
  };
}

function errorCounts(sent: readonly Sent<BenchJob>[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { answer } of sent) {
    if (answer.error !== null) counts[answer.error.kind] = (counts[answer.error.kind] ?? 0) + 1;
  }
  return counts;
}

function landedShare(answers: readonly Answered[], requests: number): number | null {
  if (answers.every(({ isLanded }) => isLanded === null)) return null;
  return share(answers.filter(({ isLanded }) => isLanded === true).length, requests);
}

function reasonsOf(answers: readonly Answered[]): Record<string, number> | null {
  const reasons = answers.flatMap(({ depthReason }) => depthReason ?? []);
  if (reasons.length === 0) return null;
  const counts: Record<string, number> = {};
  for (const reason of reasons) counts[reason] = (counts[reason] ?? 0) + 1;
  return Object.fromEntries(Object.entries(counts).map(([reason, count]) => [reason, count / reasons.length]));
}

function depthOf(answers: readonly Answered[]): Pick<Summary, 'exits' | 'meanExit'> {
  const byExit = new Map<number, number>();
  for (const { exits } of answers) {
    for (const [layer, count] of Object.entries(exits ?? {}))
      byExit.set(Number(layer), (byExit.get(Number(layer)) ?? 0) + count);
  }
  const tokens = [...byExit.values()].reduce((sum, count) => sum + count, 0);
  if (tokens === 0) return { exits: null, meanExit: null };
  return {
    exits: Object.fromEntries([...byExit].map(([layer, count]) => [layer, count / tokens])),
    meanExit: [...byExit].reduce((sum, [layer, count]) => sum + layer * count, 0) / tokens,
  };
}
