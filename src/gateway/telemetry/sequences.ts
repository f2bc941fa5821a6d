/** Figures of sequences for their metrics: actual times, classes of budgets. */
import type { Budget, EndedEvent } from '../../protocol/index.js';

/** The facts of a sequence before the engine gets it. */
export interface SequenceFacts {
  readonly arrivedAt: number;
  readonly promptTokens: number;
  readonly budget: Budget | null;
}

interface Observed {
  readonly arrivedAt: number;
  /** When its last token was drawn; null without a token. */
  readonly lastAt: number | null;
  readonly tokens: number;
}

/** The times of a sequence as its client saw them, in ms; null without a first token, or without a second one. */
export function actualTimes({ arrivedAt, lastAt, tokens }: Observed, { firstTokenAt, endedAt, reason }: EndedEvent) {
  const ttftMs = firstTokenAt === null ? null : Math.max(0, firstTokenAt - arrivedAt);
  const totalMs = Math.max(0, endedAt - arrivedAt);
  return {
    ttftMs,
    /** The wait for the first token. A sequence cut before that token has waited for it all the time. */
    awaitedMs: ttftMs ?? (reason === 'deadline' ? totalMs : null),
    tpotMs: firstTokenAt === null || tokens < 2 ? null : Math.max(0, (lastAt ?? endedAt) - firstTokenAt) / (tokens - 1),
    totalMs,
  };
}

/**
 * Upper bounds of the classes of total budgets, ms: interactive turns, then longer answers, then batch work. They
 * separate the attainment of tight and loose budgets. The set is closed: it labels a series.
 */
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
