/**
 * What a side came to in a cell, over several seeds, and how that reads.
 *
 * Knows: reports. Must not know: simulators, files.
 */
import type { DepthShape } from '../../src/router/planner.js';
import type { Outcome } from '../../src/simulate/engine.js';
import { isMet, reportOf } from '../../src/simulate/report.js';
import type { Cell } from './workload.js';

export interface Result extends Cell {
  readonly side: string;
  readonly requests: number;
  /** Share in budget, of all and of the promised; share that was promised. */
  readonly attainment: number;
  readonly attainmentOfFeasible: number;
  readonly feasible: number;
  readonly quality: number;
  readonly depth: number;
  readonly predictionError: number;
  readonly ttftP99Ms: number;
  /** By how much the latest one missed its total budget, ms; negative where none did. */
  readonly latestMs: number;
}

export function resultOf(cell: Cell, side: string, outcomes: readonly Outcome[], shape: DepthShape): Result {
  const report = reportOf(outcomes, shape);
  const promised = outcomes.filter(({ admission }) => admission.kind === 'admit' && admission.feasible);
  return {
    ...cell,
    side,
    requests: outcomes.length,
    attainment: report.attainment,
    attainmentOfFeasible: report.attainmentOfFeasible,
    feasible: promised.length / Math.max(1, outcomes.length),
    quality: report.meanQuality,
    depth: report.meanDepth,
    predictionError: report.predictionError,
    ttftP99Ms: report.ttftMs.p99,
    latestMs: outcomes.reduce(
      (most, { request, endedAt }) =>
        Math.max(most, endedAt - request.arrivedAt - (request.budget?.totalMs ?? Infinity)),
      -Infinity,
    ),
  };
}

/** Late ones that were promised to be in time, for a look at why. */
export function missesOf(outcomes: readonly Outcome[]): Outcome[] {
  return outcomes.filter((each) => each.admission.kind === 'admit' && each.admission.feasible && !isMet(each));
}

const percent = (share: number): string => `${(100 * share).toFixed(1)}%`.padStart(6);

export const cellName = ({ arrivals, load, machine }: Cell): string =>
  `${machine === 'steady' ? '' : `${machine} `}${arrivals} ${load}`;

export const HEADER = `${'cell'.padEnd(18)} ${'side'.padEnd(9)} in budget promised kept  quality depth error ttft p99 latest`;

export function lineOf(result: Result): string {
  const { side, attainment, feasible, attainmentOfFeasible, quality, depth, predictionError } = result;
  return [
    cellName(result).padEnd(18),
    side.padEnd(9),
    `   ${percent(attainment)}`,
    `  ${percent(feasible)}`,
    percent(attainmentOfFeasible),
    `  ${quality.toFixed(3)}`,
    depth.toFixed(1).padStart(5),
    percent(predictionError),
    result.ttftP99Ms.toFixed(0).padStart(6),
    result.latestMs.toFixed(0).padStart(7),
  ].join(' ');
}
