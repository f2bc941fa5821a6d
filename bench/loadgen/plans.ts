/** The runs of a bench: for each load the same jobs, with their arrival times. */
import { readFileSync } from 'node:fs';
import { seeded } from './random.js';
import { type BenchJob, type Form, questionJobs, traceJobs } from './jobs.js';
import { type BenchOptions, DEFAULT_REQUESTS } from './bench-options.js';
import { QUESTIONS, readQuestions } from './questions.js';
import { arrivalTimes } from './run.js';
import { parseTrace } from './trace.js';

export interface RunPlan {
  /** Requests per second of open load; null for clients that never pause. */
  readonly rate: number | null;
  readonly clients: number | null;
  readonly jobs: readonly BenchJob[];
  /** Arrivals in ms from the start; empty for clients that never pause. */
  readonly times: readonly number[];
}

/** @throws Error that names a file and its fault */
export function plansOf(options: BenchOptions): RunPlan[] {
  const { rates, clients, speeds, seed } = options;
  const questions = options.questions === null ? QUESTIONS : readQuestions(options.questions);
  const form: Form = { api: options.api, maxTokens: options.maxTokens, fields: options.body };
  const random = (stream: number): (() => number) => seeded(seed + stream);
  if (options.trace !== null) {
    const file = options.trace;
    const entries = parsed(file).slice(0, options.requests ?? Infinity);
    const isLength = options.lengths === 'trace';
    const jobs = traceJobs(entries, questions, options.budgets, isLength, form, random(0));
    if (clients !== null) return closed(clients, jobs);
    const spanS = (entries.at(-1)?.atMs ?? 0) / 1000;
    return speeds.map((speed) => ({
      rate: spanS === 0 ? null : (speed * entries.length) / spanS,
      clients: null,
      jobs,
      times: entries.map(({ atMs }) => atMs / speed),
    }));
  }
  if (options.lengths === 'trace') throw new Error('--lengths trace needs --trace FILE');
  if (speeds.some((speed) => speed !== 1)) throw new Error('--speeds needs --trace FILE');
  const count = options.requests ?? DEFAULT_REQUESTS;
  const jobs = questionJobs(questions, options.budgets, count, form, random(0));
  if (clients !== null) return closed(clients, jobs);
  return rates.map((rate) => ({
    rate,
    clients: null,
    jobs,
    times: arrivalTimes(count, rate, options.arrivals, random(1)),
  }));
}

const closed = (clients: readonly number[], jobs: readonly BenchJob[]): RunPlan[] =>
  clients.map((count) => ({ rate: null, clients: count, jobs, times: [] }));

function parsed(file: string) {
  try {
    return parseTrace(readFileSync(file, 'utf8'));
  } catch (cause) {
    throw new Error(`--trace ${file}: ${(cause as Error).message}`, { cause });
  }
}
