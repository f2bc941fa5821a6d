/**
 * Time without a message after which an engine counts as stuck.
 *
 * Must not know: processes, timers.
 */
import type { CostPoint, CostTable } from '../../engine/scheduler/cost/table.js';

/** Shortest time. */
const LEAST_MS = 30_000;
/** Factor between the measured and the accepted time of the longest step: the machine may be busy. */
const SLOWDOWN_LIMIT = 20;

/** Positions of an engine's longest step. */
export interface LongestStep {
  /** Most positions of a chunk. */
  readonly chunk: number;
  /** Most positions of a sequence. */
  readonly context: number;
}

/** The time in ms. The engine answers between steps only, and steps of large models take seconds. */
export function watchdogTimeout({ units }: CostTable, longest: LongestStep, leastMs = LEAST_MS): number {
  const ms = units.reduce((sum, { prefill }) => sum + chunkMs(prefill, longest), 0);
  return Math.max(leastMs, SLOWDOWN_LIMIT * ms);
}

/** Time of a chunk at the end of the longest sequence, extrapolated: measured chunks and contexts are shorter. */
function chunkMs(measured: readonly CostPoint[], { chunk, context }: LongestStep): number {
  const rows = Math.max(0, ...measured.map((point) => point.rows));
  const points = measured.filter((point) => point.rows === rows).sort((a, b) => a.context - b.context);
  const first = points[0];
  const last = points.at(-1);
  if (first === undefined || last === undefined) return 0;
  const span = last.context - first.context;
  const perPosition = span > 0 ? Math.max(0, last.ms - first.ms) / span : 0;
  const more = perPosition * Math.max(0, context - last.context);
  return ((Math.max(first.ms, last.ms) + more) * Math.max(rows, Math.min(chunk, context))) / rows;
}
