/**
 * Moves the rows of a batch together before it decodes, where that pays.
 *
 * Knows: slots, what moving and wasted rows cost. Must not know: requests, sampling.
 */
import type { Executor } from '../execution/executor.js';
import type { Sequence } from '../sequence.js';
import type { Slot } from './slot.js';
import type { SlotTable } from './slot-table.js';

/** Steps over which exchanging slots must pay for itself: a typical answer has more left. */
const COMPACTION_HORIZON_STEPS = 32;
/**
 * Bytes per millisecond that slots move with, what it takes besides to make their pages and to give the old ones back
 * (measured, 2 cores: 40 and 400 positions change places in 4 ms, in 16 with pages), and what a row too many costs in
 * a layer of the embedded model (0.018 ms with w8a8, 0.04 with int4).
 */
const MOVE_BYTES_PER_MS = 6e6;
const FRESH_BYTES_PER_MS = 2e6;
const WASTED_ROW_LAYER_MS = 0.02;

export interface DecodingRow {
  readonly index: number;
  /** Last trunk stage of its exit. */
  readonly stage: number;
}

export interface CompactionPlan {
  /** Index pairs to exchange, in order. */
  readonly swaps: readonly (readonly [number, number])[];
  /** Rows per stage that are computed for nobody as things lie now. */
  readonly waste: readonly number[];
}

/**
 * Which slots to exchange so that the batch of each stage is dense: deepest rows first. Pure.
 * @param rows the decoding rows, any order; a row may lie at any index
 */
export function planCompaction(rows: readonly DecodingRow[], stages: number): CompactionPlan {
  const waste = Array.from({ length: stages }, (_, stage) => {
    const through = rows.filter((row) => row.stage >= stage);
    return through.reduce((most, row) => Math.max(most, row.index + 1), 0) - through.length;
  });
  const swaps: [number, number][] = [];
  if (waste.every((count) => count === 0)) return { swaps, waste };
  const wanted = rows.map(({ stage }) => stage).sort((a, b) => b - a);
  const at = new Map(rows.map(({ index, stage }) => [index, stage]));
  wanted.forEach((stage, target) => {
    const present = at.get(target);
    if (present === stage) return;
    // The row to bring here is the one that lies furthest out, so that the range shrinks.
    let source = -1;
    for (const [index, depth] of at) if (index > target && depth === stage && index > source) source = index;
    if (source < 0) return;
    swaps.push([target, source]);
    at.set(target, stage);
    if (present === undefined) at.delete(source);
    else at.set(source, present);
  });
  return { swaps, waste };
}

/** Exchanges slots where the rows that the batch would compute for nobody cost more than the exchange. */
export function compact(executor: Executor, rows: readonly Sequence[]): void {
  const { table, units } = executor;
  const placed = rows.flatMap(({ slot, exit }) =>
    slot ? { index: slot.index, stage: executor.exit(exit).stage } : [],
  );
  const { swaps, waste } = planCompaction(placed, units.trunk);
  if (swaps.length === 0) return;
  const wastedLayers = waste.reduce((sum, count, stage) => sum + count * (units.stages[stage]?.entry.layers ?? 0), 0);
  const movingMs = swaps.reduce((sum, [a, b]) => sum + swapMs(table, table.at(a), table.at(b)), 0);
  if (movingMs > wastedLayers * WASTED_ROW_LAYER_MS * COMPACTION_HORIZON_STEPS) return;
  for (const [a, b] of swaps) table.swap(table.at(a), table.at(b));
}

function swapMs(table: SlotTable, a: Slot, b: Slot): number {
  return table.swapBytes(a, b) / MOVE_BYTES_PER_MS + table.freshBytes(a, b) / FRESH_BYTES_PER_MS;
}
