/** The lines that `sortie bench` prints. */
import { budgetText } from './budgets.js';
import type { RunPlan } from './plans.js';
import type { ClassSummary, Spread, Summary } from './summary.js';

const percent = (share: number): string => `${(100 * share).toFixed(1)}%`;
const percentOrDash = (share: number | null): string => (share === null ? '-' : percent(share));
const ms = (value: number): string => value.toFixed(value < 100 ? 1 : 0);
const cells = (spread: Spread | null): string[] => (spread === null ? ['-', '-'] : [ms(spread.p50), ms(spread.p95)]);

/** The load of a run in words. */
export function loadText({ rate, clients }: Pick<RunPlan, 'rate' | 'clients'>): string {
  if (clients !== null) return `${clients} ${clients === 1 ? 'client' : 'clients'} without a pause`;
  return rate === null ? 'all requests at once' : `${Number(rate.toPrecision(3))} requests/s`;
}

const sharesText = (shares: Readonly<Record<string, number>>): string =>
  Object.entries(shares)
    .map(([name, share]) => `${name}: ${percent(share)}`)
    .join(', ');

const HEAD = ['class', 'budget', 'requests', 'in budget', 'landed', 'failed', 'cut'];
const TIMES = ['TTFT p50', 'p95', 'TPOT p50', 'p95', 'total p50', 'p95'];

/** The result of a run as lines. Times are in ms. */
export function runLines(plan: Pick<RunPlan, 'rate' | 'clients'>, summary: Summary): string[] {
  const { goodput, tokensPerSecond, predictionError, insideInterval, meanExit, exits, reasons, landed, errors, lagMs } =
    summary;
  const lines = [
    `${loadText(plan)}: ${percent(summary.attainment)} of ${summary.requests} requests in budget, ` +
      (landed === null ? '' : `${percent(landed)} landed, `) +
      `goodput ${goodput.toFixed(2)}/s, ${tokensPerSecond.toFixed(1)} tokens/s, ${summary.seconds.toFixed(1)} s`,
    ...table([[...HEAD, ...TIMES], ...summary.classes.map(rowOf), rowOf(summary)]),
  ];
  if (meanExit !== null && exits !== null) {
    lines.push(`  mean exit layer ${meanExit.toFixed(1)} (${sharesText(exits)})`);
  }
  if (reasons !== null) lines.push(`  reasons of the depth at the start (${sharesText(reasons)})`);
  if (predictionError !== null) {
    const { total, ttft } = predictionError;
    const first = ttft === null ? '' : `; of the TTFT p50 ${percent(ttft.p50)}, p95 ${percent(ttft.p95)}`;
    const inside = insideInterval === null ? '' : `; ${percent(insideInterval)} inside the predicted interval`;
    lines.push(`  prediction error p50 ${percent(total.p50)}, p95 ${percent(total.p95)}${first}${inside}`);
  }
  for (const [kind, count] of Object.entries(errors)) lines.push(`  failed: ${count} with ${kind}`);
  lines.push(`  outcomes: ${outcomesText(summary)}`);
  if (summary.cut > 0) lines.push(`  cut: ${summary.cut} answers end in mid-text and count as missed`);
  if (lagMs !== null && lagMs.p95 > LAG_WARNING_MS)
    lines.push(`  the client itself was late by ${ms(lagMs.p95)} ms (p95); times include it`);
  return lines;
}

const outcomesText = ({ outcomes }: ClassSummary): string =>
  Object.entries(outcomes)
    .filter(([, count]) => count > 0)
    .map(([name, count]) => `${count} ${name}`)
    .join(', ');

/** Delay of the client above which its machine is too busy for the bench. */
const LAG_WARNING_MS = 20;

function rowOf({
  name,
  budget,
  requests,
  attainment,
  landed,
  failed,
  cut,
  ttftMs,
  tpotMs,
  totalMs,
}: ClassSummary): string[] {
  const counts = [String(requests), percent(attainment), percentOrDash(landed), String(failed), String(cut)];
  return [name, budget === null ? '' : budgetText(budget), ...counts, ...[ttftMs, tpotMs, totalMs].flatMap(cells)];
}

/** Columns of equal width; the first two are texts, the others numbers. */
function table(rows: readonly (readonly string[])[]): string[] {
  const widths = rows[0]?.map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0))) ?? [];
  return rows.map((row) =>
    `  ${row.map((cell, i) => (i < 2 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0))).join('  ')}`.trimEnd(),
  );
}
