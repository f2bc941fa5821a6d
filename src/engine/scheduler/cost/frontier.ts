/**
 * Frontiers: how many positions each unit has processed for a sequence (index: trunk stages, then the exits' blocks),
 * and the work that brings them further. A missing entry counts as none processed.
 */
import { type CostModel, type ExitIndex, type PrefillWork, at, predictMs } from './model.js';
import { promptMs } from './step-costs.js';

type Depths = Pick<CostModel, 'shape' | 'blockUnits'>;

/** Least number of positions that any unit of an exit has processed. */
export function frontierAt(frontier: ArrayLike<number>, exit: ExitIndex, model: Depths): number {
  const { stage } = at(model.shape.exits, exit);
  const block = at(model.blockUnits, exit);
  let least = Infinity;
  for (let s = 0; s <= stage; s += 1) least = Math.min(least, frontier[s] ?? 0);
  return block === null ? least : Math.min(least, frontier[block] ?? 0);
}

/**
 * The work that brings every unit of an exit to `upTo` positions: one piece per run of stages that are equally far, one
 * for the exit's block. Empty where all are there.
 */
export function advanceWork(
  frontier: ArrayLike<number>,
  exit: ExitIndex,
  upTo: number,
  model: Depths,
  chunk: number,
): PrefillWork[] {
  const { stage } = at(model.shape.exits, exit);
  const block = at(model.blockUnits, exit);
  const work: PrefillWork[] = [];
  for (let from = 0; from <= stage;) {
    const context = frontier[from] ?? 0;
    let to = from + 1;
    while (to <= stage && (frontier[to] ?? 0) === context) to += 1;
    if (context < upTo) work.push({ exit, positions: upTo - context, context, chunk, from, to });
    from = to;
  }
  const context = block === null ? upTo : (frontier[block] ?? 0);
  if (context < upTo) work.push({ exit, positions: upTo - context, context, chunk, from: stage + 1 });
  return work;
}

/** Milliseconds of `advanceWork`; a whole prompt comes from the table of step-costs.ts. */
export function advanceMs(
  frontier: ArrayLike<number>,
  exit: ExitIndex,
  upTo: number,
  model: CostModel,
  chunk: number,
): number {
  if (frontierAt(frontier, exit, model) >= upTo) return 0;
  if ((frontier[0] ?? 0) === 0) return promptMs(model, exit, upTo, chunk);
  return predictMs(model, { decode: null, prefill: advanceWork(frontier, exit, upTo, model, chunk) });
}
