/** Lines and tables that bench:goodput prints. */
import { tableOf } from '../table.js';
import type { Cell, Comparison } from './cells.js';
import { meanOf } from './cells.js';
import type { Run } from './record.js';

const share = (value: number | null): string => (value === null ? '-' : value.toFixed(3));
const whole = (ms: number | null): string => ms?.toFixed(0) ?? '-';
const loadOf = ({ arrivals, load }: Pick<Run, 'arrivals' | 'load'>): string =>
  load === null ? arrivals : `${arrivals} ${load}`;

function classesOf(classes: Run['classes']): string {
  return Object.entries(classes)
    .map(([name, count]) => `${count} ${name}`)
    .join(' ');
}

/** One run as a line. */
export function lineOf(run: Run): string {
  return [
    `${loadOf(run)} seed ${run.seed} ${run.side}: right in time ${share(run.rightInTime)}`,
    `in time ${share(run.inTime)}`,
    `right ${share(run.right)}`,
    `landed ${share(run.landed)}`,
    `cut ${share(run.cut)}`,
    `tokens ${run.tokens.toFixed(0)}`,
    `exit ${run.meanExit.toFixed(1)}`,
    `${classesOf(run.classes)} kept ${share(run.kept)}`,
    `TTFT ${whole(run.ttftP50Ms)}, 99% ${whole(run.ttftP99Ms)} ms`,
    `failed ${run.failed}`,
    `${run.seconds.toFixed(0)} s`,
  ].join(', ');
}

/** One row for each cell, seeds together; the worth with its standard error. */
export function cellTable(cells: readonly Cell[]): string[] {
  const head = ['load', 'side', 'seeds', 'right in time', 'in time', 'right', 'landed', 'cut', 'tokens', 'exit'];
  const more = ['guaranteed', 'kept', 'TTFT 50%, 99%'];
  const rows = cells.map((cell) => {
    const { runs } = cell;
    const mean = (value: (run: Run) => number): number => meanOf(runs, value);
    const isChecked = runs.every(({ right }) => right !== null);
    const guaranteed = runs.reduce((sum, { classes }) => sum + (classes.guaranteed ?? 0), 0);
    const kept = runs.reduce((sum, run) => sum + (run.kept ?? 0) * (run.classes.guaranteed ?? 0), 0) / guaranteed;
    const inTime = share(mean((run) => run.inTime));
    return [
      ...[loadOf(cell), cell.side, String(runs.length)],
      ...(isChecked ? [withError(cell), inTime] : ['-', withError(cell)]),
      isChecked ? share(mean(({ right }) => right ?? NaN)) : '-',
      ...[share(mean(({ landed }) => landed)), share(mean(({ cut }) => cut))],
      ...[mean(({ tokens }) => tokens).toFixed(0), mean(({ meanExit }) => meanExit).toFixed(1)],
      ...[share(guaranteed / runs.reduce((sum, { requests }) => sum + requests, 0))],
      guaranteed === 0 ? '-' : share(kept),
      `${whole(mean(({ ttftP50Ms }) => ttftP50Ms))}, ${whole(mean(({ ttftP99Ms }) => ttftP99Ms))}`,
    ];
  });
  return tableOf([[...head, ...more], ...rows]);
}

/** One row for each routed side and load, beside the best fixed setting with hindsight. */
export function comparisonTable(comparisons: readonly Comparison[]): string[] {
  const rows = comparisons.map(({ routed, best }) => {
    const error = Math.hypot(routed.error, best.error);
    const gain = routed.worth - best.worth;
    return [
      ...[loadOf(routed), routed.side, withError(routed), best.side, withError(best)],
      `${gain < 0 ? '' : '+'}${gain.toFixed(3)} ± ${error.toFixed(3)}`,
    ];
  });
  return tableOf([['load', 'routed side', 'worth', 'best fixed, hindsight', 'worth', 'gain'], ...rows]);
}

const withError = ({ worth, error }: Cell): string => `${worth.toFixed(3)} ± ${error.toFixed(3)}`;
