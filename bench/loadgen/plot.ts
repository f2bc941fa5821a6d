/** The plot of `sortie bench`: attainment and goodput against load, or the times of one run. SVG by ECharts, no browser. */
import { LineChart, ScatterChart } from 'echarts/charts';
import { GridComponent, LegendComponent, TitleComponent } from 'echarts/components';
import * as echarts from 'echarts/core';
import { SVGRenderer } from 'echarts/renderers';
import { budgetText } from './budgets.js';
import type { BenchJob } from './jobs.js';
import { loadText } from './lines.js';
import type { RunPlan } from './plans.js';
import type { Sent } from './run.js';
import type { Summary } from './summary.js';

echarts.use([LineChart, ScatterChart, GridComponent, LegendComponent, TitleComponent, SVGRenderer]);

export interface PlottedRun {
  readonly plan: Pick<RunPlan, 'rate' | 'clients'>;
  readonly summary: Summary;
  readonly sent: readonly Sent<BenchJob>[];
}

interface Series {
  readonly name: string;
  readonly points: readonly (readonly [x: number, y: number])[];
}

interface Plot {
  readonly title: string;
  readonly x: string;
  readonly y: string;
  /** Shares, from 0 to 1. */
  readonly series: readonly Series[];
  /** A series in another unit, dashed, on an axis at the right. */
  readonly right?: Series & { readonly y: string };
}

/** @param model the model of the title */
export function plotOf(model: string, runs: readonly PlottedRun[]): string {
  const [first, second] = runs;
  return svgOf(first !== undefined && second === undefined ? timesPlot(model, first) : loadPlot(model, runs));
}

/** Attainment of each class against load, with goodput at the right. */
function loadPlot(model: string, runs: readonly PlottedRun[]): Plot {
  const isClosed = runs.some(({ plan }) => plan.clients !== null);
  const loadOf = ({ plan: { rate, clients } }: PlottedRun): number => rate ?? clients ?? 0;
  const sorted = runs.toSorted((a, b) => loadOf(a) - loadOf(b));
  const points = (value: (summary: Summary) => number | null | undefined): Series['points'] =>
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
    series: [
      ...[...classes].map(([each, budget]) => ({
        name: budget === null ? each : `${each} (${budgetText(budget)})`,
        points: points((summary) => summary.classes.find((other) => other.name === each)?.attainment),
      })),
      ...(landed.length === 0 ? [] : [{ name: 'landed, all classes', points: landed }]),
    ],
    right: { name: 'goodput', y: 'goodput, requests/s', points: points(({ goodput }) => goodput) },
  };
}

/** Shares of the requests that are answered within a time. */
function timesPlot(model: string, { plan, summary, sent }: PlottedRun): Plot {
  const shares = (times: readonly number[]): Series['points'] =>
    [...times].sort((a, b) => a - b).map((time, i) => [time, (i + 1) / sent.length] as const);
  const answered = sent.map(({ answer }) => answer).filter(({ error }) => error === null);
  const percent = (100 * summary.attainment).toFixed(1);
  const landed = summary.landed === null ? '' : `, ${(100 * summary.landed).toFixed(1)}% landed`;
  return {
    title: `${model}: ${loadText(plan)}, ${percent}% in budget${landed}`,
    x: 'ms after the arrival of the request',
    y: 'share of all requests',
    series: [
      { name: 'first token', points: shares(answered.flatMap(({ ttftMs }) => ttftMs ?? [])) },
      { name: 'complete answer', points: shares(answered.map(({ totalMs }) => totalMs)) },
    ],
  };
}

/** Draws series as lines with dots; a series of one point is a dot. */
export function svgOf({ title, x, y, series, right }: Plot): string {
  const chart = echarts.init(null, null, { renderer: 'svg', ssr: true, width: 860, height: 520 });
  const axis = { type: 'value', nameLocation: 'middle', nameGap: 36, scale: true } as const;
  const line = ({ name, points }: Series) => ({
    type: points.length === 1 ? ('scatter' as const) : ('line' as const),
    name,
    data: points.map((point) => [...point]),
    symbolSize: 8,
  });
  const shareAxis = { ...axis, name: y, nameGap: 48, min: 0, max: 1 };
  chart.setOption({
    animation: false,
    backgroundColor: '#ffffff',
    title: { text: title, left: 'center', top: 8, textStyle: { fontSize: 15 } },
    legend: { bottom: 4 },
    grid: { left: 76, right: right === undefined ? 28 : 76, top: 52, bottom: 84 },
    xAxis: { ...axis, name: x },
    yAxis: [
      shareAxis,
      ...(right === undefined ? [] : [{ ...axis, name: right.y, nameGap: 48, min: 0, splitLine: { show: false } }]),
    ],
    series: [
      ...series.map(line),
      ...(right === undefined ? [] : [{ ...line(right), yAxisIndex: 1, lineStyle: { type: 'dashed' as const } }]),
    ],
  });
  const svg = chart.renderToSVGString();
  chart.dispose();
  return svg;
}
