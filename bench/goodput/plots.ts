/** The two plots of bench:goodput. */
import { type Plot, svgOf } from '../../src/util/plot.js';
import type { Run } from './record.js';

/** @returns file names and SVG texts: attainment against load, quality against attainment */
export function plots(runs: readonly Run[]): [file: string, svg: string][] {
  const sorted = [...runs].sort((a, b) => (a.load ?? 0) - (b.load ?? 0));
  const keys = [...new Set(sorted.map(({ side, arrivals }) => `${side}, ${arrivals}`))].sort();
  const series = (points: (run: Run) => (readonly [number, number])[]): Plot['series'] =>
    keys.map((name) => ({
      name,
      points: sorted.filter(({ side, arrivals }) => `${side}, ${arrivals}` === name).flatMap(points),
    }));
  return [
    [
      'attainment.svg',
      svgOf({
        title: 'Requests inside their latency budget against load',
        x: 'load, multiples of full-depth capacity',
        y: 'attainment',
        yRange: [0, 1],
        series: series(({ load, attainment }) => (load === null ? [] : [[load, attainment]])),
      }),
    ],
    [
      'quality.svg',
      svgOf({
        title: 'Mean quality of tokens against attainment',
        x: 'attainment',
        y: 'mean agreement with full depth',
        series: series(({ attainment, meanQuality }) => [[attainment, meanQuality]]),
      }),
    ],
  ];
}
