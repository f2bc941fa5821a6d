/**
 * Costs that planning asks for again and again, tabulated: decode steps by context, prompts by length.
 *
 * Knows: the cost model. Must not know: requests.
 *
 * The tables hold uncorrected costs, which never change, so they are kept for as long as the model's curves are.
 */
import { factorOf } from './correct.js';
import { type CostModel, cascadeMs, prefillMs, unitMs } from './model.js';

/** Corrected milliseconds of a step in which `rows[exit]` rows leave at each exit. */
export type StepMs = (rows: Int32Array) => number;

/** Contexts and prompts are rounded up to whole grains: under 1% of a step's cost. */
const CONTEXT_GRAIN = 32;
const PROMPT_GRAIN = 16;

interface Tables {
  /** [context / grain][unit][rows] */
  readonly decode: number[][][];
  /** [context / grain][exit], of a step of one row. */
  readonly lone: number[][];
  /** [exit][positions / grain], by chunk size. */
  readonly prompts: Map<number, number[][]>;
}

const tables = new WeakMap<CostModel['stages'], Tables>();

function tablesOf(model: CostModel): Tables {
  const known = tables.get(model.stages);
  if (known !== undefined) return known;
  const fresh: Tables = { decode: [], lone: [], prompts: new Map() };
  tables.set(model.stages, fresh);
  return fresh;
}

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
    return (known[rows] ??= unitMs(model, unit, rows, grain * CONTEXT_GRAIN));
  };
  return (rows) => {
    let all = 0;
    for (const count of rows) all += count;
    return cascadeMs(model, rows, cost) * (factors[all] ??= factorOf(model.correction, 'decode', all));
  };
}

/** Corrected milliseconds of a step of one row that leaves at an exit: what `stepTable` says, without a batch. */
export function loneStepMs(model: CostModel, exit: number, context: number): number {
  const grain = Math.ceil(context / CONTEXT_GRAIN);
  const byExit = (tablesOf(model).lone[grain] ??= []);
  return (byExit[exit] ??= loneMs(model, exit, grain * CONTEXT_GRAIN)) * factorOf(model.correction, 'decode', 1);
}

function loneMs(model: CostModel, exit: number, context: number): number {
  const rows = new Int32Array(model.shape.exits.length);
  rows[exit] = 1;
  return cascadeMs(model, rows, (unit, count) => (count === 0 ? 0 : unitMs(model, unit, count, context)));
}

/** Corrected milliseconds of a whole prompt up to an exit. */
export function promptMs(model: CostModel, exit: number, positions: number, chunk: number): number {
  const { prompts } = tablesOf(model);
  let byExit = prompts.get(chunk);
  if (byExit === undefined) prompts.set(chunk, (byExit = model.blocks.map(() => [])));
  const grain = Math.ceil(positions / PROMPT_GRAIN);
  const known = byExit[exit] ?? [];
  const raw = (known[grain] ??= prefillMs(model, { exit, positions: grain * PROMPT_GRAIN, context: 0, chunk }));
  return raw * factorOf(model.correction, 'prefill', Math.min(chunk, positions));
}
