/** Lines and tables that bench:goodput prints. */
import { tableOf } from '../table.js';
import { type Cell, type Comparison, meanOf } from './cells.js';
import type { Run } from './record.js';

const share = (value: number | null): string => value?.toFixed(3) ?? '-';
const whole = (value: number | null | undefined): string => value?.toFixed(0) ?? '-';

/** One run as a line. */
export function lineOf(run: Run): string {
  return [
    `load ${run.load} seed ${run.seed} ${run.side}: right in time ${share(run.rightInTime)}`,
    `in time ${share(run.inTime)}`,
    `right ${share(run.right)}`,
    `landed ${share(run.landed)}`,
    `cut ${share(run.cut / run.requests)}`,
    `tokens ${run.tokens.toFixed(0)}`,
    `exit ${run.meanExit?.toFixed(1) ?? '-'}`,
    `${run.guaranteed} guaranteed kept ${share(run.kept)}`,
    `TTFT ${whole(run.ttftMs?.p50)}, 99% ${whole(run.ttftMs?.p99)} ms`,
    `failed ${run.failed}`,
    `${run.seconds.toFixed(0)} s`,
  ].join(', ');
}

const HEAD = ['load', 'side', 'seeds', 'right in time', 'in time', 'right', 'landed', 'cut', 'tokens', 'exit'];

/** One row for each cell, seeds together; the worth with its standard error. */
export function cellTable(cells: readonly Cell[]): string[] {
  const rows = cells.map((cell) => {
    const { runs } = cell;
    /** Mean over the runs of a value, if all of them have it. */
    const mean = (value: (run: Run) => number | null | undefined): number | null => {
      const found = meanOf(runs, (run) => value(run) ?? NaN);
      return Number.isNaN(found) ? null : found;
    };
    const guaranteed = meanOf(runs, (run) => run.guaranteed / run.requests);
    const kept = meanOf(runs, (run) => ((run.kept ?? 0) * run.guaranteed) / run.requests);
    return [
      ...[String(cell.load), cell.side, String(runs.length), withError(cell)],
      ...[mean((run) => run.inTime), mean((run) => run.right), mean((run) => run.landed)].map(share),
      ...[share(mean((run) => run.cut / run.requests)), whole(mean((run) => run.tokens))],
      ...[mean((run) => run.meanExit)?.toFixed(1) ?? '-', share(guaranteed)],
      guaranteed === 0 ? '-' : share(kept / guaranteed),
      `${whole(mean((run) => run.ttftMs?.p50))}, ${whole(mean((run) => run.ttftMs?.p99))}`,
    ];
  });
  return tableOf([[...HEAD, 'guaranteed', 'kept', 'TTFT 50%, 99%'], ...rows]);
}

/** One row for each routed side and load, beside the best fixed setting with hindsight. */
export function comparisonTable(comparisons: readonly Comparison[]): string[] {
  const rows = comparisons.map(({ routed, best }) => {
    const error = Math.hypot(routed.error, best.error);
    const gain = routed.worth - best.worth;
    return [
      ...[String(routed.load), routed.side, withError(routed), best.side, withError(best)],
      `${gain < 0 ? '' : '+'}${gain.toFixed(3)} ± ${error.toFixed(3)}`,
    ];
  });
  return tableOf([['load', 'routed side', 'worth', 'best fixed, hindsight', 'worth', 'gain'], ...rows]);
}

const withError = ({ worth, error }: Cell): string => `${worth.toFixed(3)} ± ${error.toFixed(3)}`;
