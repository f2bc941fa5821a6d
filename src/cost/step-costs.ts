/**
 * Costs that planning asks for at every step, tabulated: decode steps by context, prompts by length, and the affine view
 * of a step (a fixed part per depth and a part per row).
 *
 * The tables hold table costs, which never change, so they live as long as the model's curves.
 */
import { type CostModel, cascadeMs, driftFactor, prefillMs, unitDecodeMs } from './model.js';

/** Milliseconds of a step in which `rows[exit]` rows leave at each exit, drift included. */
export type StepMs = (rows: Int32Array) => number;

/** Contexts and prompts round up to whole grains, positions: under 1% of a step's cost. */
const CONTEXT_GRAIN = 32;
const PROMPT_GRAIN = 16;

interface Tables {
  /** [context / grain][unit][rows] */
  readonly decode: number[][][];
  /** [exit][positions / grain], by chunk size. */
  readonly prompts: Map<number, number[][]>;
}

const tables = new WeakMap<CostModel['stages'], Tables>();

function tablesOf(model: CostModel): Tables {
  const known = tables.get(model.stages);
  if (known !== undefined) return known;
  const fresh: Tables = { decode: [], prompts: new Map() };
  tables.set(model.stages, fresh);
  return fresh;
}

/** @param context mean positions of past per row */
export function stepTable(model: CostModel, context: number): StepMs {
  const grain = Math.ceil(context / CONTEXT_GRAIN);
  const units = (tablesOf(model).decode[grain] ??= Array.from(
    { length: model.stages.length + model.blocks.length + 1 },
    () => [],
  ));
  const factors: number[] = [];
  const cost = (unit: number, rows: number): number => {
    if (rows === 0) return 0;
    const known = units[unit] ?? [];
    return (known[rows] ??= unitDecodeMs(model, unit, rows, grain * CONTEXT_GRAIN));
  };
  return (rows) => {
    let all = 0;
    for (const count of rows) all += count;
    return cascadeMs(model, rows, cost) * (factors[all] ??= driftFactor(model.drift, 'decode', all));
  };
}

/** Milliseconds of a step of one row that leaves at an exit, drift included. */
export function oneRowStepMs(model: CostModel, exit: number, context: number): number {
  return stepTable(model, context)(new Int32Array(model.shape.exits.length).fill(1, exit, exit + 1));
}

/** Milliseconds of a whole prompt up to an exit, drift included. */
export function promptMs(model: CostModel, exit: number, positions: number, chunk: number): number {
  const { prompts } = tablesOf(model);
  let byExit = prompts.get(chunk);
  if (byExit === undefined) prompts.set(chunk, (byExit = model.blocks.map(() => [])));
  const grain = Math.ceil(positions / PROMPT_GRAIN);
  const known = byExit[exit] ?? [];
  const raw = (known[grain] ??= prefillMs(model, { exit, positions: grain * PROMPT_GRAIN, context: 0, chunk }));
  return raw * driftFactor(model.drift, 'prefill', Math.min(chunk, positions));
}

/** A decode step as fixed[deepest exit] + sum of perRow[exit]. Both rise with depth. */
export interface AffineStepCost {
  /** By exit: ms that one more row adds to a step that reaches as deep anyway. */
  readonly perRow: Float64Array;
  /** By exit: ms of a step that reaches there, before its rows. */
  readonly fixed: Float64Array;
}

/** @param rows how many rows share a step, about: costs bend, so the slope runs from one row to these */
export function affineStepCost(step: StepMs, exits: number, rows: number): AffineStepCost {
  const perRow = new Float64Array(exits);
  const fixed = new Float64Array(exits);
  const counts = new Int32Array(exits);
  const many = Math.max(2, rows);
  let leastRow = 0;
  let leastFixed = 0;
  for (let exit = 0; exit < exits; exit += 1) {
    counts[exit] = 1;
    const one = step(counts);
    counts[exit] = many;
    const slope = Math.max(0, (step(counts) - one) / (many - 1));
    counts[exit] = 0;
    // A deeper exit never costs less, whatever the measurement says.
    perRow[exit] = leastRow = Math.max(leastRow, slope);
    fixed[exit] = leastFixed = Math.max(leastFixed, one - slope);
  }
  return { perRow, fixed };
}

/** Milliseconds of a token at an exit, with its share of the step's fixed part. @param rows rows that share the step */
export function tokenMs({ perRow, fixed }: AffineStepCost, exit: number, rows: number): number {
  return (perRow[exit] ?? 0) + (fixed[exit] ?? 0) / rows;
}
