/** Summarizes a run from the client's point of view: of `sortie bench` and of bench:goodput. */
import { isDeepStrictEqual } from 'node:util';
import { quantile } from './stats.js';
import { isKept, type Outcome, OUTCOMES, outcomeOf } from '../../src/protocol/outcome.js';
import type { Answered } from './ask.js';
import type { Budget } from './budgets.js';
import type { BenchJob } from './jobs.js';
import { durationMs, type Sent } from './run.js';

/** The part of a request that its judgement needs. */
export interface Judged extends Pick<BenchJob, 'budgetClass' | 'maxTokens'> {
  readonly budget: Budget | null;
}

export interface Spread {
  readonly p50: number;
  readonly p95: number;
  readonly p99: number;
}

export interface ClassSummary {
  readonly name: string;
  /** Null where the budgets of its requests differ. */
  readonly budget: Budget | null;
  readonly requests: number;
  /** Share of all requests with a whole or landed answer inside the budget; without a budget, with such an answer. */
  readonly attainment: number;
  /** Requests by what became of them. */
  readonly outcomes: Readonly<Record<Outcome, number>>;
  /**
   * Requests of the service class `guaranteed`, and the share of their answers that are whole or landed in time; null
   * without one.
   */
  readonly guaranteed: number;
  readonly kept: number | null;
  /** Share of all requests whose answer ended early to keep its budget; null if the server does not report it. */
  readonly landed: number | null;
  /** Requests without an answer from the server, and answers that end in mid-text. */
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
  /** Tokens of incomplete answers included. */
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

/** Null without values. */
function spreadOf(values: readonly number[]): Spread | null {
  const p50 = quantile(values, 0.5);
  const p95 = quantile(values, 0.95);
  const p99 = quantile(values, 0.99);
  return values.length === 0 ? null : { p50, p95, p99 };
}

/** The mean; NaN without values. */
export function meanOf(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/**
 * The outcome of a request by the client's clock. Where the server reports no outcome, an answer is cut by a limit that
 * its request does not state.
 */
export function outcomeOfSent({ job, answer }: Sent<Judged>): Outcome {
  const { error, outcome, isLanded, finishReason, tokens, totalMs, ttftMs, tpotMs } = answer;
  // The server's clock decides over an answer that is worth nothing anyway.
  if (outcome !== undefined && !isKept(outcome)) return outcome;
  const isBounded = job.maxTokens !== null && tokens >= job.maxTokens;
  const isCut = error !== null || (finishReason === 'length' && !isBounded);
  const isRefused = error !== null && REFUSED.test(error.kind);
  const end = isRefused ? 'refused' : (outcome ?? (isCut ? 'cut' : isLanded === true ? 'landed' : 'whole'));
  const isEmpty = outcome === undefined && error !== null && tokens === 0;
  return outcomeOf({ end, isEmpty }, { totalMs, ttftMs: ttftMs ?? totalMs, tpotMs }, job.budget);
}

/** Kinds of errors by which a server says that it has no capacity. */
const REFUSED = /^(429|503)\b/;

/** Whether the answer is whole or landed, inside every part of its budget. */
export function isMet(sent: Sent<Judged>): boolean {
  return isKept(outcomeOfSent(sent));
}

/** Share of answers with a total between the predicted 10% and 90% quantiles; null without intervals. */
export function intervalShare(answers: readonly Answered[]): number | null {
  const inside = answers.flatMap(({ error, totalMs, predictedP10Ms: from, predictedP90Ms: to }) =>
    error !== null || from === null || to === null ? [] : from <= totalMs && totalMs <= to,
  );
  return inside.length === 0 ? null : meanOf(inside.map(Number));
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

export function summaryOf(sent: readonly Sent<Judged>[]): Summary {
  const answers = sent.map(({ answer }) => answer);
  const answered = answers.filter(({ error }) => error === null);
  const seconds = durationMs(sent) / 1000;
  const perSecond = (count: number): number => (seconds === 0 ? 0 : count / seconds);
  const total = errorsOf(answered, ({ predictedMs, totalMs }) => [predictedMs, totalMs]);
  const ttft = errorsOf(answered, ({ predictedTtftMs, ttftMs }) => [predictedTtftMs, ttftMs]);
  const names = [...new Set(sent.map(({ job }) => job.budgetClass))];
  return {
    ...classSummary('all', sent),
    seconds,
    goodput: perSecond(sent.filter(isMet).length),
    tokensPerSecond: perSecond(answers.reduce((sum, { tokens }) => sum + tokens, 0)),
    predictionError: total === null ? null : { total, ttft },
    insideInterval: intervalShare(answered),
    ...depthOf(answers),
    reasons: sharesOf(answered.flatMap(({ depthReason }) => depthReason ?? [])),
    errors: countsOf(answers.flatMap(({ error }) => error?.kind ?? [])),
    lagMs: spreadOf(answers.map(({ lagMs }) => lagMs)),
    classes: names.sort().map((name) =>
      classSummary(
        name,
        sent.filter(({ job }) => job.budgetClass === name),
      ),
    ),
  };
}

function classSummary(name: string, sent: readonly Sent<Judged>[]): ClassSummary {
  const guaranteed = sent.filter(({ answer }) => answer.serviceClass === 'guaranteed');
  const answered = sent.map(({ answer }) => answer).filter(({ error }) => error === null);
  const outcomes = sent.map(outcomeOfSent);
  const counted = OUTCOMES.map((each) => [each, outcomes.filter((outcome) => outcome === each).length]);
  return {
    name,
    budget: commonBudget(sent),
    requests: sent.length,
    attainment: share(sent.filter(isMet).length, sent.length),
    outcomes: Object.fromEntries(counted) as Record<Outcome, number>,
    guaranteed: guaranteed.length,
    kept: guaranteed.length === 0 ? null : meanOf(guaranteed.map(isMet).map(Number)),
    landed: landedShare(answered, outcomes),
    failed: sent.length - answered.length,
    cut: sent.filter(({ answer }, i) => answer.error === null && outcomes[i] === 'cut').length,
    ttftMs: spreadOf(answered.flatMap(({ ttftMs }) => ttftMs ?? [])),
    tpotMs: spreadOf(answered.flatMap(({ tpotMs }) => tpotMs ?? [])),
    totalMs: spreadOf(answered.map(({ totalMs }) => totalMs)),
  };
}

function commonBudget(sent: readonly Sent<Judged>[]): Budget | null {
  const [first] = sent;
  const isCommon = sent.every(({ job }) => isDeepStrictEqual(job.budget, first?.job.budget));
  return isCommon ? (first?.job.budget ?? null) : null;
}

function countsOf(names: readonly string[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const name of names) counts[name] = (counts[name] ?? 0) + 1;
  return counts;
}

/** Null without a name. */
function sharesOf(names: readonly string[]): Record<string, number> | null {
  if (names.length === 0) return null;
  return Object.fromEntries(Object.entries(countsOf(names)).map(([name, count]) => [name, count / names.length]));
}

function landedShare(answers: readonly Answered[], outcomes: readonly Outcome[]): number | null {
  if (answers.every(({ isLanded, outcome }) => isLanded === null && outcome === undefined)) return null;
  return share(outcomes.filter((outcome) => outcome === 'landed').length, outcomes.length);
}

/** Tokens of all answers by exit layer, shallowest first. */
function depthOf(answers: readonly Answered[]): Pick<Summary, 'exits' | 'meanExit'> {
  const byExit = new Map<number, number>();
  for (const { exits } of answers) {
    for (const [layer, count] of Object.entries(exits ?? {}))
      byExit.set(Number(layer), (byExit.get(Number(layer)) ?? 0) + count);
  }
  const tokens = [...byExit.values()].reduce((sum, count) => sum + count, 0);
  if (tokens === 0) return { exits: null, meanExit: null };
  return {
    exits: Object.fromEntries([...byExit].sort(([a], [b]) => a - b).map(([layer, count]) => [layer, count / tokens])),
    meanExit: [...byExit].reduce((sum, [layer, count]) => sum + layer * count, 0) / tokens,
  };
}
