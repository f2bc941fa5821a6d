/** Makes requests from a trace: scaled in time and length, each in a budget class. */
import { hasBudgets, type TraceEntry } from '../../bench/loadgen/trace.js';
import type { Budget } from '../../src/protocol/index.js';
import type { SimulatedRequest } from './simulated-request.js';

/** Times of full depth on an idle machine, in ms. */
export interface TokenTimes {
  readonly perPromptToken: number;
  readonly perOutputToken: number;
}

/** Classes of clients, of the same share each: their total budget is 50 ms and so many times the time of full depth. */
const CLASSES = { tight: 2, medium: 4, loose: 10 };

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

/** Whether the scheduler knows exact answer lengths (`stated`), which no client states, or requests omit max_tokens. */
export const LIMITS = ['stated', 'unstated'] as const;
export type Limits = (typeof LIMITS)[number];

/**
 * Requests with the trace's lengths, equal at every exit. Budgets come from the trace if it has any, else from three
 * classes.
 * @param random numbers in [0, 1) that choose the class of each request
 */
export function requestsOf(
  trace: readonly TraceEntry[],
  times: TokenTimes,
  scale: Scale,
  random: () => number,
  exits: number,
  limits: Limits,
): SimulatedRequest[] {
  const isKnown = hasBudgets(trace);
  return trace.slice(0, scale.limit).map((entry, i) => {
    const tokens = Math.min(scale.maxLength - 1, Math.max(1, Math.round(entry.outputTokens * scale.length)));
    const wanted = Math.max(1, Math.round(entry.promptTokens * scale.length));
    const promptLength = Math.min(scale.maxLength - tokens, wanted);
    const classes = Object.entries(CLASSES);
    const [name = '', multiple = 0] = classes[Math.floor(random() * classes.length)] ?? [];
    const atFullDepth = times.perPromptToken * promptLength + times.perOutputToken * tokens;
    const made: Budget = { totalMs: 50 + multiple * atFullDepth, ttftMs: null, tpotMs: null, onMiss: 'land' };
    const budget = isKnown ? loggedBudget(entry) : made;
    return {
      id: `r${i}`,
      arrivedAt: entry.atMs / scale.speed,
      promptLength,
      lengths: new Array<number>(exits).fill(tokens),
      // A chat request without max_tokens may answer to the end of the context.
      maxTokens: limits === 'stated' ? tokens : scale.maxLength - promptLength,
      isExactLength: limits === 'stated',
      lengthGroup: { kind: 'chat', key: null },
      budget,
      minExit: null,
      maxExit: null,
      budgetClass: isKnown ? (budget === null ? 'none' : 'logged') : name,
    };
  });
}

function loggedBudget({ budget }: TraceEntry): Budget | null {
  return budget == null ? null : { ...budget, onMiss: budget.totalMs === null ? 'continue' : 'land' };
}
