/** The runs of all seeds together, and the best fixed setting with hindsight. Pure functions. */
import type { Run, Traffic } from './record.js';

/** The runs of a side under one load. */
export interface Cell extends Pick<Run, 'side' | 'kind' | 'arrivals' | 'load'> {
  readonly runs: readonly Run[];
  /** Mean score in time, or share in time for questions without a check. */
  readonly worth: number;
  /** Standard error of the worth. */
  readonly error: number;
}

/** The worth of a run: right answers in time, or answers in time where nothing checks them. */
export const worthOf = ({ rightInTime, inTime }: Run): number => rightInTime ?? inTime;

/** Mean over requests of a value of the runs. */
export function meanOf(runs: readonly Run[], value: (run: Run) => number): number {
  const all = runs.reduce((sum, { requests }) => sum + requests, 0);
  return runs.reduce((sum, run) => sum + run.requests * value(run), 0) / all;
}

/**
 * The greater of two standard errors of the worth: over all requests, and over the seeds. Requests of one run share their
 * queue, so the error over requests alone is too small.
 */
export function errorOf(runs: readonly Run[]): number {
  const all = runs.reduce((sum, { requests }) => sum + requests, 0);
  const overRequests = Math.sqrt(meanOf(runs, ({ deviation }) => deviation ** 2) / all);
  if (runs.length < 2) return overRequests;
  const worth = meanOf(runs, worthOf);
  const variance = runs.reduce((sum, run) => sum + (worthOf(run) - worth) ** 2, 0) / (runs.length - 1);
  return Math.max(overRequests, Math.sqrt(variance / runs.length));
}

const TRAFFIC: readonly Traffic[] = ['poisson', 'bursty', 'closed'];

/** Cells in order of arrivals, load and worth, the best first. */
export function cellsOf(runs: readonly Run[]): Cell[] {
  const groups = new Map<string, Run[]>();
  for (const run of runs) {
    const key = JSON.stringify([run.side, run.arrivals, run.load]);
    groups.set(key, [...(groups.get(key) ?? []), run]);
  }
  const cells = [...groups.values()].flatMap((own): Cell[] => {
    const [first] = own;
    if (first === undefined) return [];
    const { side, kind, arrivals, load } = first;
    return [{ side, kind, arrivals, load, runs: own, worth: meanOf(own, worthOf), error: errorOf(own) }];
  });
  const place = ({ arrivals, load }: Cell): number => 1000 * TRAFFIC.indexOf(arrivals) + (load ?? 0);
  return cells.sort((a, b) => place(a) - place(b) || b.worth - a.worth);
}

/** A routed side against the best fixed setting of its load, which only hindsight knows. */
export interface Comparison {
  readonly routed: Cell;
  readonly best: Cell;
}

/** Each routed cell with the best fixed cell or peer of the same arrivals and load; without one, it has no comparison. */
export function comparisonsOf(cells: readonly Cell[]): Comparison[] {
  return cells
    .filter(({ kind }) => kind === 'routed')
    .flatMap((routed) => {
      const others = cells.filter((cell) => cell.kind !== 'routed' && isSameLoad(cell, routed));
      const best = others.reduce<Cell | null>((a, b) => (a === null || b.worth > a.worth ? b : a), null);
      return best === null ? [] : [{ routed, best }];
    });
}

function isSameLoad(a: Cell, b: Cell): boolean {
  return a.arrivals === b.arrivals && a.load === b.load;
}
