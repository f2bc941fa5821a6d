/** Summarizes a simulated run: attainment, goodput, depth. */
import type { DepthShape } from '../cost/model.js';
import { quantile } from '../util/stats.js';
import { isWithin, timesOf } from '../util/within-budget.js';
import type { Outcome } from './engine.js';

export interface ClassReport {
  readonly name: string;
  readonly requests: number;
  /** Share of requests that finished inside their budget; a request without a budget counts when it finished. */
  readonly attainment: number;
  /** Guaranteed requests, and the share of them inside their budget. */
  readonly guaranteed: number;
  readonly kept: number;
  readonly rejected: number;
}

export interface Report extends Omit<ClassReport, 'name'> {
  readonly seconds: number;
  /** Requests inside their budget per second. */
  readonly goodput: number;
  readonly tokensPerSecond: number;
  /** Mean over tokens: layers, and the exits' measured quality. */
  readonly meanDepth: number;
  readonly meanQuality: number;
  /** Share of the tokens at each exit layer. */
  readonly exits: Readonly<Record<string, number>>;
  readonly ttftMs: { readonly p50: number; readonly p99: number };
  /** Median of |predicted total / actual total - 1|. */
  readonly predictionError: number;
  /** Share of outcomes inside their predicted 10% to 90% interval. */
  readonly inInterval: number;
  readonly classes: readonly ClassReport[];
}

/** Whether an answer is complete and inside its budget. */
export function isMet({ request, reason, firstTokenAt, endedAt, tokens }: Outcome): boolean {
  if (firstTokenAt === null || (reason !== 'length' && reason !== 'landed')) return false;
  return isWithin(timesOf({ arrivedAt: request.arrivedAt, firstTokenAt, endedAt, tokens }), request.budget);
}

const share = (part: number, all: number): number => (all === 0 ? 1 : part / all);

/** The quantile, or 0 without values. */
const quantileOf = (values: readonly number[], q: number): number => (values.length === 0 ? 0 : quantile(values, q));

export function reportOf(outcomes: readonly Outcome[], shape: DepthShape): Report {
  const byExit = new Map<number, number>();
  for (const { path } of outcomes) {
    for (const { exit, tokens } of path) byExit.set(exit, (byExit.get(exit) ?? 0) + tokens);
  }
  const tokens = [...byExit.values()].reduce((sum, n) => sum + n, 0);
  const mean = (value: (layer: number) => number): number =>
    [...byExit].reduce((sum, [layer, n]) => sum + value(layer) * n, 0) / Math.max(1, tokens);
  const start = outcomes.reduce((least, { request }) => Math.min(least, request.arrivedAt), Infinity);
  const end = outcomes.reduce((most, { endedAt }) => Math.max(most, endedAt), start);
  const seconds = outcomes.length === 0 ? 0 : (end - start) / 1000;
  const finished = outcomes.filter(({ reason }) => reason === 'length');
  const names = [...new Set(outcomes.map(({ request }) => request.budgetClass))].sort();
  return {
    ...classReport('all', outcomes),
    seconds,
    goodput: seconds === 0 ? 0 : outcomes.filter(isMet).length / seconds,
    tokensPerSecond: seconds === 0 ? 0 : tokens / seconds,
    meanDepth: mean((layer) => layer),
    meanQuality: mean((layer) => shape.exits.find((exit) => exit.layer === layer)?.quality ?? 0),
    exits: Object.fromEntries([...byExit].sort(([a], [b]) => a - b).map(([layer, n]) => [layer, n / tokens])),
    ttftMs: ttft(finished),
    predictionError: quantileOf(finished.map(errorOf), 0.5),
    inInterval: share(finished.filter(isInInterval).length, finished.length),
    classes: names.map((name) =>
      classReport(
        name,
        outcomes.filter(({ request }) => request.budgetClass === name),
      ),
    ),
  };
}

function classReport(name: string, outcomes: readonly Outcome[]): ClassReport {
  const guaranteed = outcomes.filter(isGuaranteed);
  return {
    name,
    requests: outcomes.length,
    attainment: share(outcomes.filter(isMet).length, outcomes.length),
    guaranteed: guaranteed.length,
    kept: share(guaranteed.filter(isMet).length, guaranteed.length),
    rejected: outcomes.filter(({ reason }) => reason === 'rejected').length,
  };
}

/** Whether the client may rely on the budget. */
export function isGuaranteed({ admission }: Outcome): boolean {
  return admission.kind === 'admit' && admission.serviceClass === 'guaranteed';
}

function isInInterval({ admission, request, endedAt }: Outcome): boolean {
  if (admission.kind !== 'admit') return false;
  const ms = endedAt - request.arrivedAt;
  return ms >= admission.predictedP10Ms && ms <= admission.predictedP90Ms;
}

function ttft(outcomes: readonly Outcome[]): Report['ttftMs'] {
  const all = outcomes.map(({ request, firstTokenAt }) => (firstTokenAt ?? 0) - request.arrivedAt);
  return { p50: quantileOf(all, 0.5), p99: quantileOf(all, 0.99) };
}

function errorOf({ admission, request, endedAt }: Outcome): number {
  if (admission.kind !== 'admit') return 0;
  return Math.abs(admission.predictedMs / Math.max(1e-9, endedAt - request.arrivedAt) - 1);
}
