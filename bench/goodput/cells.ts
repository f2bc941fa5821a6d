/** The runs of all seeds together, and the best fixed setting with hindsight. Pure functions. */
import type { Run } from './record.js';

/** The runs of a side under one load. */
export interface Cell extends Pick<Run, 'side' | 'kind' | 'load'> {
  readonly runs: readonly Run[];
  /** Mean right answers in time, and their standard error. */
  readonly worth: number;
  readonly error: number;
}

/** Mean over requests of a value of the runs. */
export function meanOf(runs: readonly Run[], value: (run: Run) => number): number {
  const all = runs.reduce((sum, { requests }) => sum + requests, 0);
  return runs.reduce((sum, run) => sum + run.requests * value(run), 0) / all;
}

const worthOf = (runs: readonly Run[]): number => meanOf(runs, ({ rightInTime }) => rightInTime);

/**
 * The greater of two standard errors of the worth: over all requests, and over the seeds. Requests of one run share their
 * queue, so the error over requests alone is too small.
 */
export function errorOf(runs: readonly Run[]): number {
  const all = runs.reduce((sum, { requests }) => sum + requests, 0);
  const overRequests = Math.sqrt(meanOf(runs, ({ deviation }) => deviation ** 2) / all);
  if (runs.length < 2) return overRequests;
  const worth = worthOf(runs);
  const variance = runs.reduce((sum, run) => sum + (run.rightInTime - worth) ** 2, 0) / (runs.length - 1);
  return Math.max(overRequests, Math.sqrt(variance / runs.length));
}

/** Cells in order of load and worth, the best first. */
export function cellsOf(runs: readonly Run[]): Cell[] {
  const groups = new Map<string, [Run, ...Run[]]>();
  for (const run of runs) {
    const key = JSON.stringify([run.side, run.load]);
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [run]);
    else group.push(run);
  }
  const cells = [...groups.values()].map((own): Cell => {
    const { side, kind, load } = own[0];
    return { side, kind, load, runs: own, worth: worthOf(own), error: errorOf(own) };
  });
  return cells.sort((a, b) => a.load - b.load || b.worth - a.worth);
}

/** A routed side against the best fixed setting of its load, which only hindsight knows. */
export interface Comparison {
  readonly routed: Cell;
  readonly best: Cell;
}

/** Each routed cell with the best fixed cell or peer of its load; without one, it has no comparison. */
export function comparisonsOf(cells: readonly Cell[]): Comparison[] {
  return cells.flatMap((routed) => {
    const best = cells.find(({ kind, load }) => kind !== 'routed' && load === routed.load);
    return routed.kind !== 'routed' || best === undefined ? [] : [{ routed, best }];
  });
}
