/**
 * Classes of latency budgets, which separate the attainment of tight and loose budgets. The set is closed: it labels a
 * series.
 */
import type { Budget } from '../engine/protocol.js';

/** Upper bounds of the classes of total budgets, ms: interactive turns, then longer answers, then batch work. */
const TOTAL_CLASSES = [
  [250, 'up_to_250ms'],
  [1000, 'up_to_1s'],
  [4000, 'up_to_4s'],
  [16_000, 'up_to_16s'],
] as const;

export type BudgetClass = (typeof TOTAL_CLASSES)[number][1] | 'over_16s' | 'per_token';

export const BUDGET_CLASSES: readonly BudgetClass[] = [
  ...TOTAL_CLASSES.map(([, name]) => name),
  'over_16s',
  'per_token',
];

/** The class by the total budget; `per_token` for a budget that bounds only TTFT or TPOT. */
export function budgetClass({ totalMs }: Budget): BudgetClass {
  if (totalMs === null) return 'per_token';
  return TOTAL_CLASSES.find(([most]) => totalMs <= most)?.[1] ?? 'over_16s';
}
