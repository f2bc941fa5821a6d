/**
 * Costs that planning asks for at every step: the affine view of a decode step, with a fixed part per depth and a part
 * per row, and prompts by length.
 *
 * A frontier says how many positions each unit has processed for a sequence (index: trunk stages, then the exits'
 * blocks). A missing entry counts as none processed.
 */
import { at } from '../../../util/at.js';
import { type CostModel, type ExitIndex, type PrefillWork, decodeMs, predictMs, prefillMs } from './model.js';

/** Prompts round up to whole grains, positions: under 1% of a step's cost. */
const PROMPT_GRAIN = 16;

/** Milliseconds of a whole prompt up to an exit, drift included. */
export function promptMs(model: CostModel, exit: ExitIndex, positions: number, chunk: number): number {
  const grain = Math.ceil(positions / PROMPT_GRAIN);
  const known = ((model.memo.prompts[chunk] ??= [])[exit] ??= []);
  const raw = (known[grain] ??= prefillMs(model, { exit, positions: grain * PROMPT_GRAIN, context: 0, chunk }));
  return raw * model.drift.slowdown;
}

/**
 * One exit's part of a decode step that costs fixedMs of its deepest exit and rowMs of every row. Both rise with depth.
 */
export interface ExitCost {
  /** A step that reaches there, before its rows. */
  readonly fixedMs: number;
  /** One more row in a step that reaches as deep anyway. */
  readonly rowMs: number;
}

/** By exit. @param rows how many rows share a step, about: costs bend, so the slope runs from one row to these */
export function affineStepCost(model: CostModel, context: number, rows: number): ExitCost[] {
  const counts = new Int32Array(model.shape.exits.length);
  const step = (): number => decodeMs(model, counts, context);
  const many = Math.max(2, rows);
  let rowMs = 0;
  let fixedMs = 0;
  return Array.from(counts, (_, exit) => {
    counts.fill(0)[exit] = 1;
    const one = step();
    counts[exit] = many;
    const slope = Math.max(0, (step() - one) / (many - 1));
    // A deeper exit never costs less, whatever the measurement says.
    rowMs = Math.max(rowMs, slope);
    fixedMs = Math.max(fixedMs, one - slope);
    return { rowMs, fixedMs };
  });
}

/** The milliseconds of a step of some rows: the fixed part of their deepest exit, and the parts of all rows. */
export class StepSum {
  #fixedMs = 0;
  #rowsMs = 0;

  /** @param costs by exit */
  constructor(private readonly costs: readonly ExitCost[]) {}

  /** Milliseconds of the step. */
  get ms(): number {
    return this.#fixedMs + this.#rowsMs;
  }

  /** Milliseconds with one more row at an exit. */
  with(exit: ExitIndex): number {
    const { fixedMs, rowMs } = at(this.costs, exit);
    return Math.max(this.#fixedMs, fixedMs) + this.#rowsMs + rowMs;
  }

  add(exit: ExitIndex): void {
    const { fixedMs, rowMs } = at(this.costs, exit);
    if (fixedMs > this.#fixedMs) this.#fixedMs = fixedMs;
    this.#rowsMs += rowMs;
  }
}

/** Milliseconds of a step of one row at each of these exits. @param costs by exit */
export function stepMsOf(costs: readonly ExitCost[], exits: readonly ExitIndex[]): number {
  const step = new StepSum(costs);
  for (const exit of exits) step.add(exit);
  return step.ms;
}

/** Least number of positions that any unit of an exit has processed. */
export function frontierAt(
  frontier: ArrayLike<number>,
  exit: ExitIndex,
  { needed }: Pick<CostModel, 'needed'>,
): number {
  let least = Infinity;
  for (const unit of at(needed, exit)) least = Math.min(least, frontier[unit] ?? 0);
  return least;
}

/**
 * The work that brings every unit of an exit to `upTo` positions: one piece for the units that are equally far. Empty
 * where all are there.
 */
export function advanceWork(
  frontier: ArrayLike<number>,
  exit: ExitIndex,
  upTo: number,
  { needed }: Pick<CostModel, 'needed'>,
  chunk: number,
): PrefillWork[] {
  const work = new Map<number, number[]>();
  for (const unit of at(needed, exit)) {
    const context = frontier[unit] ?? 0;
    if (context >= upTo) continue;
    const alike = work.get(context);
    if (alike === undefined) work.set(context, [unit]);
    else alike.push(unit);
  }
  return [...work].map(([context, units]) => ({ exit, positions: upTo - context, context, chunk, units }));
}

/** Milliseconds of `advanceWork`; a whole prompt comes from the table. */
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
