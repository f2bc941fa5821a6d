/** The plot of `sortie bench`: attainment and goodput against load, or the times of one run. */
import { type Plot, svgOf } from './svg-plot.js';
import { budgetText } from './budgets.js';
import type { BenchJob } from './jobs.js';
import { loadText } from './lines.js';
import type { RunPlan } from './plans.js';
import type { Sent } from './run.js';
import type { Summary } from './summary.js';

export interface PlottedRun {
  readonly plan: Pick<RunPlan, 'rate' | 'clients'>;
  readonly summary: Summary;
  readonly sent: readonly Sent<BenchJob>[];
}

/** @param model the model of the title */
export function plotOf(model: string, runs: readonly PlottedRun[]): string {
  const [first, second] = runs;
  if (first !== undefined && second === undefined) return svgOf(timesPlot(model, first));
  return svgOf(loadPlot(model, runs));
}

/** Attainment of each class against load, with goodput at the right. */
function loadPlot(model: string, runs: readonly PlottedRun[]): Plot {
  const isClosed = runs.some(({ plan }) => plan.clients !== null);
  const loadOf = ({ plan: { rate, clients } }: PlottedRun): number => rate ?? clients ?? 0;
  const sorted = runs.toSorted((a, b) => loadOf(a) - loadOf(b));
  const points = (value: (summary: Summary) => number | null | undefined): (readonly [number, number])[] =>
    sorted.flatMap((run) => {
      const found = value(run.summary);
      return found == null ? [] : [[loadOf(run), found] as const];
    });
  const classes = new Map(sorted.flatMap(({ summary }) => summary.classes.map((each) => [each.name, each.budget])));
  const landed = points((summary) => summary.landed);
  return {
    title: `${model}: requests in budget against load`,
    x: isClosed ? 'clients without a pause' : 'requests/s',
    y: 'share of requests in budget',
    yRange: [0, 1],
    series: [
      ...[...classes].map(([each, budget]) => ({
        name: budget === null ? each : `${each} (${budgetText(budget)})`,
        points: points((summary) => summary.classes.find((other) => other.name === each)?.attainment),
      })),
      ...(landed.length === 0 ? [] : [{ name: 'landed, all classes', points: landed }]),
    ],
    right: {
      y: 'goodput, requests/s',
      yRange: [0, null],
      series: [{ name: 'goodput', points: points(({ goodput }) => goodput) }],
    },
  };
}

/** Shares of the requests that are answered within a time. */
function timesPlot(model: string, { plan, summary, sent }: PlottedRun): Plot {
  const shares = (times: readonly number[]): (readonly [number, number])[] =>
    [...times].sort((a, b) => a - b).map((time, i) => [time, (i + 1) / sent.length] as const);
  const answered = sent.map(({ answer }) => answer).filter(({ error }) => error === null);
  const percent = (100 * summary.attainment).toFixed(1);
  const landed = summary.landed === null ? '' : `, ${(100 * summary.landed).toFixed(1)}% landed`;
  return {
    title: `${model}: ${loadText(plan)}, ${percent}% in budget${landed}`,
    x: 'ms after the arrival of the request',
    y: 'share of all requests',
    yRange: [0, 1],
    series: [
      { name: 'first token', points: shares(answered.flatMap(({ ttftMs }) => ttftMs ?? [])) },
      { name: 'complete answer', points: shares(answered.map(({ totalMs }) => totalMs)) },
    ],
  };
}
