/** The plot of bench:goodput for each open load. */
import { type Plot, svgOf } from '../../src/util/plot.js';
import type { Cell } from './cells.js';
import { comparisonsOf } from './cells.js';

const TITLES = { poisson: 'Poisson load', bursty: 'load in bursts of 8' } as const;

/** @param layers exit layers, shallowest first. @returns file names and SVG texts */
export function plots(cells: readonly Cell[], layers: readonly number[]): [file: string, svg: string][] {
  return (['poisson', 'bursty'] as const).flatMap((arrivals): [string, string][] => {
    const own = cells.filter((cell) => cell.arrivals === arrivals && cell.load !== null);
    if (own.length === 0) return [];
    const isChecked = own.every(({ runs }) => runs.every(({ rightInTime }) => rightInTime !== null));
    const y = isChecked ? 'right answers in time' : 'answers in time';
    const title = `${isChecked ? 'Right answers in time' : 'Answers in time'} against ${TITLES[arrivals]}`;
    const x = 'load, multiples of what full depth completes';
    return [[`in-time-${arrivals}.svg`, svgOf({ title, x, y, yRange: [0, null], series: seriesOf(own, layers) })]];
  });
}

/** Routed sides, the best fixed setting of each load, and the deepest exit, the shallowest one and the peer as they are. */
function seriesOf(cells: readonly Cell[], layers: readonly number[]): Plot['series'] {
  const side = (name: string, label: string): Plot['series'][number] => ({
    name: label,
    points: pointsOf(cells.filter((cell) => cell.side === name)),
  });
  const routed = [...new Set(cells.filter(({ kind }) => kind === 'routed').map((cell) => cell.side))];
  const best = comparisonsOf(cells).filter((each) => each.routed.side === routed[0]);
  const [shallowest, deepest] = [layers[0], layers.at(-1)];
  return [
    ...routed.map((name) => side(name, name)),
    { name: 'best fixed setting, with hindsight', points: pointsOf(best.map((each) => each.best)) },
    side(`fixed ${deepest}`, 'full depth'),
    side(`fixed ${shallowest}`, `exit ${shallowest}`),
    side('llama-server', 'llama-server'),
  ].filter(({ points }) => points.length > 0);
}

const pointsOf = (cells: readonly Cell[]): [number, number][] => cells.map(({ load, worth }) => [load ?? 0, worth]);
