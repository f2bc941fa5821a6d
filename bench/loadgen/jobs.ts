/** The requests of a bench, the same for every server and rate with one seed. */
import type { Asked } from '../remote/stream.js';
import { type Budget, type BudgetClass, NO_BUDGET } from './budgets.js';
import { hasBudgets, type TraceEntry } from './trace.js';

export interface BenchJob {
  readonly id: string;
  readonly budgetClass: string;
  readonly budget: Budget;
  readonly question: string;
  readonly asked: Asked;
  /** Tokens that the request demands or allows at most; null if it states none. */
  readonly maxTokens: number | null;
}

export interface Form {
  readonly api: 'chat' | 'completions';
  readonly maxTokens: number | null;
  /** Further fields of each request. */
  readonly fields: Readonly<Record<string, unknown>>;
}

function askedOf(question: string, { api, maxTokens, fields }: Form): Asked {
  const limit = maxTokens === null ? {} : { max_tokens: maxTokens };
  return api === 'chat'
    ? { path: '/chat/completions', body: { messages: [{ role: 'user', content: question }], ...limit, ...fields } }
    : { path: '/completions', body: { prompt: question, ...limit, ...fields } };
}

/**
 * Jobs of natural length: the questions in a shuffled order that repeats, each in a random class. A question repeats
 * only after all others.
 */
export function questionJobs(
  questions: readonly string[],
  classes: readonly BudgetClass[],
  count: number,
  form: Form,
  random: () => number,
): BenchJob[] {
  const order = shuffled(questions, random);
  return Array.from({ length: count }, (_, i) =>
    jobOf(`r${i}`, order[i % order.length] ?? '', classOf(classes, random), form),
  );
}

/**
 * Jobs for the entries of a trace. The trace gives the budgets if it is a log with budgets.
 * @param isLength whether the trace also gives the lengths: prompts of about so many tokens, and answers of exactly so
 * many tokens from servers that know `ignore_eos`
 */
export function traceJobs(
  trace: readonly TraceEntry[],
  questions: readonly string[],
  classes: readonly BudgetClass[],
  isLength: boolean,
  form: Form,
  random: () => number,
): BenchJob[] {
  const order = shuffled(questions, random);
  const isStated = hasBudgets(trace);
  return trace.map((entry, i) => {
    const budgetClass = isStated ? loggedClass(entry) : classOf(classes, random);
    if (!isLength) return jobOf(`r${i}`, order[i % order.length] ?? '', budgetClass, form);
    const maxTokens = Math.max(1, entry.outputTokens);
    const exact = { ...form, maxTokens, fields: { ignore_eos: true, ...form.fields } };
    return jobOf(`r${i}`, fillerOf(entry.promptTokens, random), budgetClass, exact);
  });
}

function jobOf(id: string, question: string, { name, budget }: BudgetClass, form: Form): BenchJob {
  return { id, budgetClass: name, budget, question, asked: askedOf(question, form), maxTokens: form.maxTokens };
}

function loggedClass({ budget }: TraceEntry): BudgetClass {
  return budget == null ? { name: 'none', budget: NO_BUDGET } : { name: 'logged', budget };
}

function classOf(classes: readonly BudgetClass[], random: () => number): BudgetClass {
  return classes[Math.floor(random() * classes.length)] ?? { name: 'none', budget: NO_BUDGET };
}

export function shuffled<T>(values: readonly T[], random: () => number): T[] {
  return values
    .map((value) => ({ value, at: random() }))
    .sort((a, b) => a.at - b.at)
    .map(({ value }) => value);
}

/** Words that are one token in common vocabularies. */
const WORDS = (
  'time year people way day man thing woman life child world school state family student group country problem hand ' +
  'part place case week company system program question work number night point home water room mother area money'
).split(' ');

/** A text of about so many tokens that shares no long prefix with another one. */
function fillerOf(tokens: number, random: () => number): string {
  return Array.from({ length: Math.max(1, tokens) }, () => WORDS[Math.floor(random() * WORDS.length)]).join(' ');
}
