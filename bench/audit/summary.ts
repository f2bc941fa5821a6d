/** The tables of bench:audit. */
import { quantile } from '../../src/util/stats.js';
import type { Cell, CellName } from './cell.js';

/** A card's agreement of an exit with the base, and that of full depth as served. */
export interface CardExit {
  readonly layer: number;
  readonly agreement: number | undefined;
}

const percent = (share: number): string => `${(100 * share).toFixed(1)}%`;

/** Mean and range of a value over seeds. */
function overSeeds(values: readonly number[], form: (value: number) => string): string {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  return `${form(mean)} (${form(Math.min(...values))} to ${form(Math.max(...values))})`;
}

/** One row for each load and side: p99 of the TTFT of all seeds together, the others as mean and range over seeds. */
export function loadTable(cells: readonly Cell[]): string[] {
  const head = ['Load', 'Audit', 'Requests', 'TTFT p50, ms', 'TTFT p99, ms', 'p99 by seed', 'In budget', 'Exit'];
  const rows = groupsOf(cells).map(({ load, audit, own }) => {
    const ttfts = own.flatMap(({ ttftMs }) => ttftMs);
    return [
      ...[String(load), audit, String(ttfts.length)],
      ...[quantile(ttfts, 0.5), quantile(ttfts, 0.99)].map((ms) => ms.toFixed(0)),
      own.map(({ ttftMs }) => quantile(ttftMs, 0.99).toFixed(0)).join(', '),
      overSeeds(
        own.map(({ inTime }) => inTime),
        percent,
      ),
      overSeeds(
        own.map(({ meanExit }) => meanExit),
        (exit) => exit.toFixed(1),
      ),
    ];
  });
  return tableOf([head, ...rows]);
}

/** The cells of each load and side, in order of load. */
function groupsOf(cells: readonly Cell[]): { load: number; audit: string; own: Cell[] }[] {
  const loads = [...new Set(cells.map(({ load }) => load))].sort((a, b) => a - b);
  const sides = [...new Set(cells.map(({ audit }) => audit))];
  return loads
    .flatMap((load) =>
      sides.map((audit) => ({ load, audit, own: cells.filter((cell) => cell.load === load && cell.audit === audit) })),
    )
    .filter(({ own }) => own.length > 0);
}

/** Ended answers of the audited sides when the load ends: shares by outcome, of all and of those below full depth. */
export function outcomeTable(cells: readonly Cell[]): string[] {
  const audited = groupsOf(cells.filter(({ audit }) => audit !== 'off'));
  const rows = audited.map(({ load, audit, own }) => {
    const count = (outcome: string): number => own.reduce((sum, { outcomes }) => sum + (outcomes[outcome] ?? 0), 0);
    const all = own.reduce((sum, { requests }) => sum + requests, 0);
    const shallow = all - count('full_depth');
    const left = ['waiting', 'queue', 'stale', 'memory', 'time'].map(
      (outcome) => `${outcome} ${percent(count(outcome) / shallow)}`,
    );
    const seconds = own.reduce((sum, { auditSeconds }) => sum + auditSeconds, 0);
    return [
      ...[String(load), audit, percent(shallow / all), percent(count('audited') / shallow), left.join(', ')],
      ((1000 * seconds) / Math.max(1, count('audited'))).toFixed(0),
    ];
  });
  const head = [
    'Load',
    'Audit',
    'Answers below full depth',
    'Of these audited',
    'Not audited at the end',
    'ms an audit',
  ];
  return tableOf([head, ...rows]);
}

/** Audited agreement by exit against the card's, over all cells. */
export function agreementTable(cells: readonly Cell[], card: readonly CardExit[]): string[] {
  const full = card.at(-1)?.agreement ?? 1;
  const rows = card.slice(0, -1).map(({ layer, agreement }) => {
    const own = cells.flatMap((cell) => cell.agreement[String(layer)] ?? []);
    const answers = own.reduce((sum, each) => sum + each.answers, 0);
    const probed = own.reduce((sum, each) => sum + each.answers * (each.probed ?? 0), 0) / answers;
    const tokens = own.reduce((sum, { written }) => sum + written.tokens, 0);
    const agreeing = own.reduce((sum, { written }) => sum + written.agreeing, 0);
    const shown = (value: number): string => (Number.isFinite(value) ? value.toFixed(3) : '-');
    return [
      ...[String(layer), answers.toFixed(0), shown(probed), shown(probed * full), shown(agreement ?? NaN)],
      ...[String(tokens), shown(agreeing / tokens)],
    ];
  });
  return tableOf([
    ['Exit', 'Probed answers', 'With served full depth', 'Estimate of the base', 'Card', 'Own tokens', 'Own agreement'],
    ...rows,
  ]);
}

/** Cells in the order of a run: sides alternate, and the first side changes from pair to pair. */
export function cellsOf(sides: readonly string[], loads: readonly number[], seeds: readonly number[]): CellName[] {
  const pairs = seeds.flatMap((seed) => loads.map((load) => ({ seed, load })));
  return pairs.flatMap((pair, i) => (i % 2 === 0 ? sides : sides.toReversed()).map((audit) => ({ ...pair, audit })));
}

function tableOf(rows: readonly (readonly string[])[]): string[] {
  const [head = [], ...others] = rows;
  return [head, head.map(() => '---'), ...others].map((row) => `| ${row.join(' | ')} |`);
}
