/**
 * Moves the rows of a batch together before it decodes, if the move costs less than it saves. Each stage runs over a
 * range of slots.
 *
 * Must not know: requests, sampling.
 */
import type { Slot } from './slot.js';
import type { Swaps } from './kv-account.js';
import type { SlotTable } from './slot-table.js';
import type { ExitUnits, Units } from './units.js';

/** Steps over which an exchange of slots must pay off; a typical answer has more left. */
const COMPACTION_HORIZON_STEPS = 32;
/** Bandwidth of moving slots between written pages (2 cores: 4 ms to exchange 40 and 400 positions). */
const MOVE_BYTES_PER_MS = 6e6;
/** Bandwidth of committing new pages and releasing the old ones (2 cores: the same exchange takes 16 ms with it). */
export const FRESH_BYTES_PER_MS = 2e6;
/** Cost of an unneeded row in a layer of the embedded model (0.018 ms with w8a8, 0.04 ms with int4). */
const WASTED_ROW_LAYER_MS = 0.02;

export interface DecodingRow {
  readonly index: number;
  /** Last trunk stage of its exit. */
  readonly stage: number;
}

export interface CompactionPlan {
  /** Index pairs to exchange, in order. */
  readonly swaps: readonly (readonly [number, number])[];
  /** Unneeded rows per stage in the present order. */
  readonly waste: readonly number[];
}

/**
 * Selects slots to exchange so that the batch of each stage is dense: deepest rows first. Pure.
 * @param rows decoding rows, in any order and at any index
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
    // Of the candidates, the row with the highest index moves here, so that the range shrinks.
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

/** Exchanges slots where the unneeded rows of the batch cost more than the exchange. */
export function compact(
  table: SlotTable,
  units: Units,
  rows: readonly { readonly slot: Slot; readonly exit: ExitUnits }[],
): void {
  const { swaps: moves } = table.kv;
  if (moves === null) return;
  const decoding = rows.map(({ slot, exit }) => ({ index: slot.index, stage: exit.stage }));
  const { swaps, waste } = planCompaction(decoding, units.trunkStages);
  if (swaps.length === 0) return;
  const wastedLayers = waste.reduce((sum, count, stage) => sum + count * (units.stages[stage]?.entry.layers ?? 0), 0);
  const movingMs = swaps.reduce((sum, [a, b]) => sum + swapMs(moves, table.at(a), table.at(b)), 0);
  if (movingMs > wastedLayers * WASTED_ROW_LAYER_MS * COMPACTION_HORIZON_STEPS) return;
  for (const [a, b] of swaps) table.swap(table.at(a), table.at(b));
}

function swapMs(moves: Pick<Swaps, 'swapBytes' | 'freshBytes'>, a: Slot, b: Slot): number {
  return moves.swapBytes(a, b) / MOVE_BYTES_PER_MS + moves.freshBytes(a, b) / FRESH_BYTES_PER_MS;
}
