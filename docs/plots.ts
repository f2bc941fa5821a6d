/** `npm run docs:plots`: writes the plots in docs/img from the tables of docs/router.md. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from '../src/config.js';
import { type Plot, svgOf } from '../src/util/plot.js';

type Row = Readonly<Record<string, string>>;

const SIDES = ['Routed', 'Simple', 'Pinned 10', 'Pinned 30'];

/** Rows of the table whose first column has that name, each by column. @throws Error without such a table */
function tableOf(markdown: string, first: string): Row[] {
  const cellsOf = (line: string): string[] =>
    line
      .split('|')
      .slice(1, -1)
      .map((cell) => cell.trim());
  const lines = markdown.split('\n');
  const start = lines.findIndex((line) => line.startsWith('|') && cellsOf(line)[0] === first);
  if (start < 0) throw new Error(`docs/router.md has no table that begins with "${first}"`);
  const columns = cellsOf(lines[start] ?? '');
  const end = lines.findIndex((line, index) => index > start && !line.startsWith('|'));
  return lines.slice(start + 2, end).map((line) => {
    const cells = cellsOf(line);
    return Object.fromEntries(columns.map((column, index) => [column, cells[index] ?? '']));
  });
}

/** @throws Error where the cell holds no number */
function numberOf(row: Row, column: string): number {
  const value = Number.parseFloat(row[column] ?? '');
  if (Number.isNaN(value)) throw new Error(`docs/router.md: no number in the column "${column}"`);
  return value;
}

/** Attainment against load for a workload, such as "short, Poisson 0.8". */
function attainment(markdown: string, workload: string, title: string): Plot {
  const rows = tableOf(markdown, 'Workload, load')
    .map((row) => ({ row, words: (row['Workload, load'] ?? '').split(' ') }))
    .filter(({ words }) => words.slice(0, -1).join(' ') === workload);
  return {
    title,
    x: 'load, multiples of what full depth completes',
    y: 'requests in budget, %',
    yRange: [0, 100],
    series: SIDES.map((side) => ({
      name: side,
      points: rows.map(({ row, words }) => [Number(words.at(-1)), numberOf(row, side)] as const),
    })),
  };
}

/** Attainment against quality, a point for each weight. */
function frontier(markdown: string): Plot {
  const rows = tableOf(markdown, 'Weight');
  return {
    title: 'In budget against quality, by --attainment-weight',
    x: 'mean quality',
    y: 'requests in budget, %',
    series: rows.map((row) => ({
      name: `weight ${row.Weight ?? ''}`,
      points: [[numberOf(row, 'Mean quality'), numberOf(row, 'In budget')] as const],
    })),
  };
}

const folder = process.argv[2] ?? join(packageRoot, 'docs', 'img');
const markdown = readFileSync(join(packageRoot, 'docs', 'router.md'), 'utf8');
const plots: Readonly<Record<string, Plot>> = {
  'attainment-poisson.svg': attainment(markdown, 'short, Poisson', 'In budget against load, Poisson arrivals'),
  'frontier.svg': frontier(markdown),
};
mkdirSync(folder, { recursive: true });
for (const [name, plot] of Object.entries(plots)) writeFileSync(join(folder, name), `${svgOf(plot)}\n`);
