/**
 * How long an engine may be silent before it counts as stuck.
 *
 * Knows: measured costs, the positions of its longest step. Must not know: processes, timers.
 */
import type { CostPoint, CostTable } from '../../cost/table.js';

/** Shortest silence that ends an engine, ms. */
const LEAST_MS = 30_000;
/** How many times as long as measured its longest step may take: a busy machine, and then some. */
const SLOWER = 20;

/** Positions of an engine's longest step. */
export interface LongestStep {
  /** Of a chunk. */
  readonly chunk: number;
  /** Of a sequence. */
  readonly context: number;
}

/** How long an engine may be silent, ms: it says nothing in mid-step, and steps of large models take seconds. */
export function silenceOf({ units }: CostTable, longest: LongestStep, leastMs = LEAST_MS): number {
  const ms = units.reduce((sum, { prefill }) => sum + chunkMs(prefill, longest), 0);
  return Math.max(leastMs, SLOWER * ms);
}

/** What a chunk at the end of the longest sequence takes: chunks are measured with fewer positions and a shorter past. */
function chunkMs(measured: readonly CostPoint[], { chunk, context }: LongestStep): number {
  const rows = Math.max(0, ...measured.map((point) => point.rows));
  const points = measured.filter((point) => point.rows === rows).sort((a, b) => a.context - b.context);
  const [first, last] = [points[0], points.at(-1)];
  if (first === undefined || last === undefined) return 0;
  const span = last.context - first.context;
  const perPosition = span > 0 ? Math.max(0, last.ms - first.ms) / span : 0;
  const more = perPosition * Math.max(0, context - last.context);
  return ((Math.max(first.ms, last.ms) + more) * Math.max(rows, Math.min(chunk, context))) / rows;
}
