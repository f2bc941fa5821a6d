/** The work of a step as the costs count it. */
import type { DepthShape, Work } from './cost/model.js';
import type { ChunkWork } from './chunks.js';
import type { Sequence } from './sequence.js';

/** The work of chunks, and of the rows that decode behind them. */
export function workOf(chunks: readonly ChunkWork[], rows: readonly Sequence[], shape: DepthShape): Work {
  return { decode: decodeWork(rows, shape), prefill: chunks.flatMap(({ work }) => work) };
}

/** One position for each row; null without rows. */
export function decodeWork(rows: readonly Sequence[], { exits }: DepthShape): Work['decode'] {
  if (rows.length === 0) return null;
  const byExit = exits.map((_, exit) => rows.filter((row) => row.exit === exit).length);
  return { rows: byExit, context: rows.reduce((sum, { tokens }) => sum + tokens.length, 0) / rows.length };
}
