/**
 * Decode step costs at one context, tabulated by rows: planning asks for the same few hundred numbers again and again.
 *
 * Knows: the cost model. Must not know: requests.
 */
import { factorOf } from './correct.js';
import { type CostModel, cascadeMs, unitMs } from './model.js';

/** Corrected milliseconds of a step in which `rows[exit]` rows leave at each exit. */
export type StepMs = (rows: Int32Array) => number;

export function stepTable(model: CostModel, context: number): StepMs {
  const units: number[][] = Array.from({ length: model.stages.length + model.blocks.length + 1 }, () => []);
  const factors: number[] = [];
  const cost = (unit: number, rows: number): number => {
    if (rows === 0) return 0;
    const known = units[unit] ?? [];
    return (known[rows] ??= unitMs(model, unit, rows, context));
  };
  return (rows) => {
    let all = 0;
    for (const count of rows) all += count;
    return cascadeMs(model, rows, cost) * (factors[all] ??= factorOf(model.correction, 'decode', all));
  };
}
