/** Results of a side in a cell, over several seeds, and their lines. */
import type { DepthShape } from '../../src/cost/model.js';
import type { Outcome } from '../../src/simulate/engine.js';
import { isGuaranteed, isMet, reportOf } from '../../src/simulate/report.js';
import type { Cell } from './workload.js';

export interface Result extends Cell {
  readonly side: string;
  readonly requests: number;
  /** Shares: of all requests inside their budget, of all requests guaranteed, and of these kept. */
  readonly attainment: number;
  readonly guaranteed: number;
  readonly kept: number;
  readonly quality: number;
  readonly depth: number;
  readonly predictionError: number;
  /** Share of outcomes inside the predicted 10% to 90% interval. */
  readonly inInterval: number;
  readonly ttftP99Ms: number;
  /**
   * Longest wait of a request without a budget or beyond it. A wait counts the answers that finish before its first
   * token, over the requests ahead of it at its arrival (at least the slots). First come, first served has at most 1.
   */
  readonly overtaken: number;
}

export function resultOf(
  cell: Cell,
  side: string,
  runs: readonly (readonly Outcome[])[],
  shape: DepthShape,
  slots: number,
): Result {
  const outcomes = runs.flat();
  const report = reportOf(outcomes, shape);
  return {
    ...cell,
    side,
    requests: outcomes.length,
    attainment: report.attainment,
    guaranteed: report.guaranteed / Math.max(1, outcomes.length),
    kept: report.kept,
    quality: report.meanQuality,
    depth: report.meanDepth,
    predictionError: report.predictionError,
    inInterval: report.inInterval,
    ttftP99Ms: report.ttftMs.p99,
    overtaken: Math.max(...runs.map((run) => overtakenOf(run, slots))),
  };
}

function overtakenOf(run: readonly Outcome[], slots: number): number {
  let most = 0;
  for (const each of run) {
    if (each.request.budget !== null && isMet(each)) continue;
    const { arrivedAt } = each.request;
    const ahead = run.filter(({ request, endedAt }) => request.arrivedAt < arrivedAt && endedAt > arrivedAt).length;
    const startedAt = each.firstTokenAt ?? each.endedAt;
    const ended = run.filter(({ endedAt }) => endedAt > arrivedAt && endedAt < startedAt).length;
    most = Math.max(most, ended / Math.max(slots, ahead));
  }
  return most;
}

/** Missed guarantees, for inspection. */
export function missesOf(outcomes: readonly Outcome[]): Outcome[] {
  return outcomes.filter((each) => isGuaranteed(each) && !isMet(each));
}

const percent = (share: number): string => `${(100 * share).toFixed(1)}%`.padStart(6);

export const cellName = ({ workload, arrivals, load, machine }: Cell): string =>
  `${workload} ${machine === 'steady' ? '' : `${machine} `}${arrivals} ${load}`;

export const HEADER = `${'cell'.padEnd(26)} ${'side'.padEnd(13)} in budget guarant. kept    quality depth error interval ttft p99 overtaken`;

export function lineOf(result: Result): string {
  const { side, attainment, guaranteed, kept, quality, depth, predictionError, inInterval } = result;
  return [
    cellName(result).padEnd(26),
    side.padEnd(13),
    `   ${percent(attainment)}`,
    `  ${percent(guaranteed)}`,
    percent(kept),
    `  ${quality.toFixed(3)}`,
    depth.toFixed(1).padStart(5),
    percent(predictionError),
    percent(inInterval),
    result.ttftP99Ms.toFixed(0).padStart(8),
    result.overtaken.toFixed(1).padStart(6),
  ].join(' ');
}
