/** Lines and tables that bench:goodput prints. */
import { tableOf } from '../table.js';
import { type Cell, type Comparison, meanOf } from './cells.js';
import type { Run } from './record.js';

const share = (value: number | null): string => (value === null ? '-' : value.toFixed(3));
const whole = (value: number | null | undefined): string => value?.toFixed(0) ?? '-';
const loadOf = ({ arrivals, load }: Pick<Run, 'arrivals' | 'load'>): string =>
  load === null ? arrivals : `${arrivals} ${load}`;

/** One run as a line. */
export function lineOf(run: Run): string {
  return [
    `${loadOf(run)} seed ${run.seed} ${run.side}: right in time ${share(run.rightInTime)}`,
    `in time ${share(run.inTime)}`,
    `right ${share(run.right)}`,
    `landed ${share(run.landed)}`,
    `hinted ${share(run.hinted)}`,
    `prompt exits ${share(run.promptExits)}`,
    `cut ${share(run.cut / run.requests)}`,
    `tokens ${run.tokens.toFixed(0)}`,
    `exit ${run.meanExit?.toFixed(1) ?? '-'}`,
    `${run.guaranteed} guaranteed kept ${share(run.kept)}`,
    `TTFT ${whole(run.ttftMs?.p50)}, 99% ${whole(run.ttftMs?.p99)} ms`,
    `failed ${run.failed}`,
    `${run.seconds.toFixed(0)} s`,
  ].join(', ');
}

/** One row for each cell, seeds together; the worth with its standard error. */
export function cellTable(cells: readonly Cell[]): string[] {
  const head = ['load', 'side', 'seeds', 'right in time', 'in time', 'right', 'landed', 'cut', 'tokens', 'exit'];
  const rows = cells.map((cell) => {
    const { runs } = cell;
    /** Mean over the runs of a value, if all of them have it. */
    const mean = (value: (run: Run) => number | null | undefined): number | null => {
      const found = meanOf(runs, (run) => value(run) ?? NaN);
      return Number.isNaN(found) ? null : found;
    };
    const guaranteed = mean((run) => run.guaranteed / run.requests);
    const kept = mean((run) => ((run.kept ?? 0) * run.guaranteed) / run.requests);
    const right = mean((run) => run.right);
    const inTime = share(mean((run) => run.inTime));
    return [
      ...[loadOf(cell), cell.side, String(runs.length)],
      ...(right === null ? ['-', withError(cell)] : [withError(cell), inTime]),
      ...[right, mean((run) => run.landed), mean((run) => run.cut / run.requests)].map(share),
      ...[whole(mean((run) => run.tokens)), mean((run) => run.meanExit)?.toFixed(1) ?? '-'],
      ...[share(guaranteed), guaranteed === 0 ? '-' : share((kept ?? NaN) / (guaranteed ?? NaN))],
      `${whole(mean((run) => run.ttftMs?.p50))}, ${whole(mean((run) => run.ttftMs?.p99))}`,
    ];
  });
  return tableOf([[...head, 'guaranteed', 'kept', 'TTFT 50%, 99%'], ...rows]);
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
