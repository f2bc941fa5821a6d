/**
 * Sortie and vLLM over HTTP: the same token ids to the same shape, one server after the other on one card. Without a program
 * `vllm` the table has Sortie alone, and says so.
 */
import { spawnSync } from 'node:child_process';
import { ask } from '../loadgen/ask.js';
import { serverAt } from '../remote/server.js';
import { median } from '../../src/util/stats.js';
import { promptOf } from '../scenario.js';
import { type Server, startServer, startSortie, withServer } from '../server.js';
import { tableOf } from '../table.js';

/** Prompts of so many tokens, and so many at a time. */
const CONTEXTS = [32, 2000, 8000];
const ROWS = [1, 16, 64];
const ANSWER = 33;
/** Most positions of all prompts of a cell, so that the table takes minutes. */
const MOST_POSITIONS = 200_000;

/** Times of a cell in ms: medians over its answers. */
export interface Cell {
  readonly ttft: number;
  readonly tpot: number;
}

/** Cells by side, and by context and rows. */
export type Comparison = Record<string, Record<string, Cell>>;

export function hasVllm(): boolean {
  return spawnSync('vllm', ['--version'], { stdio: 'ignore' }).status === 0;
}

/**
 * Measures each exit of a folder, by the names that the server gives them.
 * @param exits names of models, such as `1b:8`
 * @param format of the weights, for the table
 */
export async function measureSortie(
  modelDir: string,
  exits: readonly string[],
  format: string,
  options: readonly string[],
): Promise<Comparison> {
  return withServer(startSortie(modelDir, options), async (server) => {
    const found: Comparison = {};
    for (const exit of exits) found[`Sortie ${exit} ${format}`] = await cellsOf(server, exit);
    return found;
  });
}

/** @param source the Hugging Face folder of the same shape */
export async function measureVllm(source: string): Promise<Comparison> {
  const limits = ['--max-model-len', '8192', '--dtype', 'float16', '--no-enable-prefix-caching'];
  const command = ['vllm', 'serve', source, '--host', '127.0.0.1', '--port', 'PORT', ...limits];
  return withServer(startServer(command, '/health'), async (server) => ({
    'vLLM fp16': await cellsOf(server, source),
  }));
}

async function cellsOf(server: Server, model: string): Promise<Record<string, Cell>> {
  await cellOf(server, model, 64, 2, 9_000_000);
  const cells: Record<string, Cell> = {};
  for (const [i, context] of CONTEXTS.entries())
    for (const rows of ROWS)
      if (context * rows <= MOST_POSITIONS)
        cells[`${context} tokens, ${rows} rows`] = await cellOf(server, model, context, rows, 1e5 * i + 1000 * rows);
  return cells;
}

async function cellOf(server: Server, model: string, context: number, rows: number, salt: number): Promise<Cell> {
  const answers = await Promise.all(
    Array.from({ length: rows }, (_, row) => answerOf(server, model, promptOf(context, salt + row))),
  );
  const of = (time: keyof Cell): number => median(answers.map((answer) => answer[time]));
  return { ttft: of('ttft'), tpot: of('tpot') };
}

async function answerOf({ url }: Server, model: string, prompt: readonly number[]): Promise<Cell> {
  const body = { prompt, max_tokens: ANSWER, temperature: 0, ignore_eos: true };
  const { ttftMs, tpotMs, error } = await ask(serverAt(url, null), model, { path: '/completions', body });
  if (error !== null) throw new Error(error.message);
  return { ttft: ttftMs ?? NaN, tpot: tpotMs ?? NaN };
}

/** One table of Markdown: TTFT / TPOT in ms. */
export function comparisonTable(comparison: Comparison): string {
  const sides = Object.keys(comparison);
  const rows = [...new Set(sides.flatMap((side) => Object.keys(comparison[side] ?? {})))];
  const text = (cell: Cell | undefined): string =>
    cell === undefined ? '–' : `${cell.ttft.toFixed(0)} / ${cell.tpot.toFixed(2)}`;
  return tableOf([
    ['TTFT / TPOT, ms', ...sides],
    ...rows.map((row) => [row, ...sides.map((side) => text(comparison[side]?.[row]))]),
  ]).join('\n');
}
