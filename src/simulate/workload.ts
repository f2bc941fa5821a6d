/** Makes requests from a trace: scaled in time and length, each in a budget class. */
import { hasBudgets, type TraceEntry } from '../load/trace.js';
import type { Budget, OnMiss } from '../router/index.js';
import type { SimulatedRequest } from './request.js';

/** A class of clients. Its budget may grow with prompt and answer, as deadlines of people do. */
export interface BudgetClass {
  readonly name: string;
  /** Share of the requests, relative to the other classes. */
  readonly weight: number;
  /** Total budget: fixed + perPromptToken * prompt + perOutputToken * output tokens. Null: no total. */
  readonly totalMs: { readonly fixed: number; readonly perPromptToken: number; readonly perOutputToken: number } | null;
  readonly ttftMs: number | null;
  readonly tpotMs: number | null;
  readonly onMiss: OnMiss;
}

export interface Scale {
  /** Factor on the arrival rate. */
  readonly speed: number;
  /** Factor on the lengths of prompts and answers, which have at least one token. */
  readonly length: number;
  /** Most requests to take from the start of the trace. */
  readonly limit: number;
  /** Longest sequence of the model; longer prompts are cut to leave room for the answer. */
  readonly maxLength: number;
}

/** Three classes with 2, 4 and 10 times the time of full depth on an idle machine. */
export function classesFor(prefillMsPerToken: number, decodeMsPerToken: number): BudgetClass[] {
  const named = { tight: 2, medium: 4, loose: 10 };
  return Object.entries(named).map(([name, times]) => ({
    name,
    weight: 1,
    totalMs: { fixed: 50, perPromptToken: prefillMsPerToken * times, perOutputToken: decodeMsPerToken * times },
    ttftMs: null,
    tpotMs: null,
    onMiss: 'land',
  }));
}

export function budgetOf(
  { totalMs, ttftMs, tpotMs, onMiss }: BudgetClass,
  prompt: number,
  output: number,
): Budget | null {
  if (totalMs === null && ttftMs === null && tpotMs === null) return null;
  const total =
    totalMs === null ? null : totalMs.fixed + totalMs.perPromptToken * prompt + totalMs.perOutputToken * output;
  return { totalMs: total, ttftMs, tpotMs, onMiss };
}

/** Whether the router knows exact answer lengths (`stated`), which no client states, or requests omit max_tokens. */
export const LIMITS = ['stated', 'unstated'] as const;
export type Limits = (typeof LIMITS)[number];

/**
 * Requests with the trace's lengths, equal at every exit. Budgets come from the trace if it has any, else from the
 * classes.
 * @param random numbers in [0, 1) that choose the class of each request
 */
export function requestsOf(
  trace: readonly TraceEntry[],
  classes: readonly BudgetClass[],
  scale: Scale,
  random: () => number,
  exits: number,
  limits: Limits,
): SimulatedRequest[] {
  const isKnown = hasBudgets(trace);
  const weights = classes.reduce((sum, each) => sum + each.weight, 0);
  return trace.slice(0, scale.limit).map((entry, i) => {
    const tokens = Math.min(scale.maxLength - 1, Math.max(1, Math.round(entry.outputTokens * scale.length)));
    const wanted = Math.max(1, Math.round(entry.promptTokens * scale.length));
    const promptLength = Math.min(scale.maxLength - tokens, wanted);
    let left = random() * weights;
    const drawn = classes.find((each) => (left -= each.weight) < 0) ?? classes.at(-1);
    const budgetClass = isKnown ? loggedClass(entry) : drawn;
    return {
      id: `r${i}`,
      arrivedAt: entry.atMs / scale.speed,
      promptLength,
      lengths: new Array<number>(exits).fill(tokens),
      // A chat request without max_tokens may answer to the end of the context.
      maxTokens: limits === 'stated' ? tokens : scale.maxLength - promptLength,
      isExactLength: limits === 'stated',
      lengthGroup: { kind: 'chat', key: null },
      budget: budgetClass === undefined ? null : budgetOf(budgetClass, promptLength, tokens),
      minExit: null,
      maxExit: null,
      budgetClass: budgetClass?.name ?? 'none',
    };
  });
}

/** The class of one logged request; undefined if it has no budget. */
function loggedClass({ budget }: TraceEntry): BudgetClass | undefined {
  if (budget === undefined || budget === null) return undefined;
  const { totalMs, ttftMs, tpotMs } = budget;
  const total = totalMs === null ? null : { fixed: totalMs, perPromptToken: 0, perOutputToken: 0 };
  return { name: 'logged', weight: 1, totalMs: total, ttftMs, tpotMs, onMiss: total === null ? 'continue' : 'land' };
}
