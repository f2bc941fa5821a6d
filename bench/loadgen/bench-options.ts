/** Options of `sortie bench`, with their defaults. */
import type { BudgetClass } from './budgets.js';
import type { Arrivals } from './run.js';

export interface BenchOptions {
  readonly url: string;
  readonly model: string | null;
  readonly apiKey: string | null;
  readonly api: 'chat' | 'completions';
  /** Requests per second of open load, one run each. */
  readonly rates: readonly number[];
  readonly arrivals: Arrivals;
  /** Closed load instead: numbers of clients that never pause, one run each. */
  readonly clients: readonly number[] | null;
  /** Requests of a run; null for 60, or all entries of the trace. */
  readonly requests: number | null;
  /** File of questions; null for the built-in ones. */
  readonly questions: string | null;
  /** File of arrivals: the log of Sortie, or a CSV in the format of the Azure LLM inference traces. */
  readonly trace: string | null;
  /** Multiples of the trace's own rate, one run each. */
  readonly speeds: readonly number[];
  /** `trace`: prompts and answers have the lengths of the trace. */
  readonly lengths: 'natural' | 'trace';
  readonly budgets: readonly BudgetClass[];
  /** Whether requests state their budget in Sortie's headers; null: if the server is Sortie. */
  readonly sendBudgets: boolean | null;
  /** `max_tokens` of each request; null states none. */
  readonly maxTokens: number | null;
  /** Further fields and headers of each request. */
  readonly body: Readonly<Record<string, unknown>>;
  readonly headers: Readonly<Record<string, string>>;
  /** Seconds after which the client cancels a request. */
  readonly timeout: number;
  readonly seed: number;
  /** Files for the results as JSON and the plot as SVG; null writes none. */
  readonly out: string | null;
  readonly plot: string | null;
}

/**
 * `max_tokens` of requests to other servers than Sortie, unless the operator states it: no answer then runs for
 * minutes.
 */
export const FOREIGN_MAX_TOKENS = 512;

/** Requests of a run without a trace. */
export const DEFAULT_REQUESTS = 60;

const total = (name: string, totalMs: number): BudgetClass => ({
  name,
  budget: { totalMs, ttftMs: null, tpotMs: null },
});

export const benchDefaults = {
  model: null,
  apiKey: null,
  api: 'chat' as 'chat' | 'completions',
  rates: [1],
  arrivals: 'poisson' as Arrivals,
  clients: null,
  requests: null,
  questions: null,
  trace: null,
  speeds: [1],
  lengths: 'natural' as 'natural' | 'trace',
  budgets: [total('tight', 1000), total('medium', 3000), total('loose', 10_000)],
  sendBudgets: null,
  maxTokens: null,
  body: {},
  headers: {},
  timeout: 300,
  seed: 1,
  out: null,
  plot: null,
} satisfies Omit<BenchOptions, 'url'>;
