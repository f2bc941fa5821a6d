/**
 * Which slots to exchange so that the batch of each stage is dense: deepest rows first.
 *
 * Pure. Knows: indices and depths of the decoding rows. Must not know: contents, memory.
 */

export interface ArrangedRow {
  readonly index: number;
  /** Last trunk stage of its exit. */
  readonly stage: number;
}

export interface Arrangement {
  /** Index pairs to exchange, in order. */
  readonly swaps: readonly (readonly [number, number])[];
  /** Rows per stage that are computed for nobody as things lie now. */
  readonly waste: readonly number[];
}

/** @param rows the decoding rows, any order; a row may lie at any index */
export function arrange(rows: readonly ArrangedRow[], stages: number): Arrangement {
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
