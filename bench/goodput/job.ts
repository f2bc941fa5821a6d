/** The jobs of bench:goodput, and their sending to a side's server. */
import { type CheckedRequest, type Half, isChecked, readRequests } from '../everyday/requests.js';
import { score } from '../everyday/score.js';
import { ask, type Answered } from '../loadgen/ask.js';
import { type BudgetClass, NO_BUDGET } from '../loadgen/budgets.js';
import { type BenchJob, type Form, questionJobs } from '../loadgen/jobs.js';
import type { Send } from '../loadgen/run.js';
import { serverAt } from '../remote/server.js';
import { seeded } from '../loadgen/random.js';
import type { Side, SidedModel } from './side.js';

/** One request of the bench, the same for every side. */
export interface Job extends BenchJob {
  readonly check: CheckedRequest;
}

/** An answer with its score. */
export interface GoodputAnswer extends Answered {
  /** 0..1. A failed answer has 0. */
  readonly right: number;
}

/** The checked requests of a half. @param file in the form of everyday/requests.json */
export function checkedQuestions(file: string, half: Half): CheckedRequest[] {
  return readRequests(file)
    .filter(isChecked)
    .filter((request) => request.half === half);
}

/**
 * Reads budgets such as `500,1000,2000` in ms, or `1x,2x,4x` as multiples of a time.
 * @param medianMs the median time of full depth alone over the questions
 * @throws Error that names the option, its rule and the value
 */
export function budgetsOf(text: string, medianMs: number): BudgetClass[] {
  return text.split(',').map((name) => {
    const [, number = '', unit] = /^(\d+(?:\.\d+)?)(x?)$/.exec(name.trim()) ?? [];
    const value = Number(number);
    if (!(value > 0))
      throw new Error(`--budgets must be positive ms or multiples such as 2x, separated by commas, got "${text}"`);
    const totalMs = Math.round(unit === 'x' ? value * medianMs : value);
    return { name: name.trim(), budget: { ...NO_BUDGET, totalMs } };
  });
}

/** The class of requests without a budget. */
export const ENDLESS: readonly BudgetClass[] = [{ name: 'none', budget: NO_BUDGET }];

/** The limit and further fields of every request. */
export type JobForm = Partial<Pick<Form, 'maxTokens' | 'fields'>>;

/** The same jobs for every side: greedy. @param form of all; absent: no limit */
export function jobsOf(
  questions: readonly CheckedRequest[],
  classes: readonly BudgetClass[],
  count: number,
  seed: number,
  { maxTokens = null, fields }: JobForm = {},
): Job[] {
  const checks = new Map(questions.map((check) => [check.request, check]));
  const form = { api: 'chat', maxTokens, fields: { temperature: 0, ...fields } } as const;
  return questionJobs([...checks.keys()], classes, count, form, seeded(seed)).flatMap((job) => {
    const check = checks.get(job.question);
    return check === undefined ? [] : [{ ...job, check }];
  });
}

/** The accuracy of the exits of a whole answer; 0 for another one. */
function expectedOf({ outcome, exits, tokens }: Answered, accuracy: SidedModel['accuracy']): number {
  if ((outcome !== 'whole' && outcome !== 'late') || exits === null) return 0;
  const shares = Object.entries(exits).map(([exit, count]) => (count / tokens) * (accuracy.get(Number(exit)) ?? 0));
  return shares.reduce((sum, each) => sum + each, 0);
}

/**
 * Sends jobs to a server with the headers and fields of a side.
 * @param accuracy of each exit, which scores whole answers in place of the check
 */
export function sender(
  url: string,
  model: string,
  { headers, fields, aborts }: Pick<Side, 'headers' | 'fields' | 'aborts'>,
  accuracy: SidedModel['accuracy'] | null = null,
): Send<Job, GoodputAnswer> {
  const server = serverAt(url, null);
  return async ({ asked: { path, body }, budget, check }, scheduledAt) => {
    const leftMs = scheduledAt + (budget.totalMs ?? Infinity) - performance.now();
    const answer = await ask(
      server,
      model,
      { path, body: { ...body, ...fields(budget) } },
      {
        headers: headers(budget),
        scheduledAt,
        ...(aborts && { signal: AbortSignal.timeout(Math.max(0, Math.ceil(leftMs))) }),
      },
    );
    const scored = answer.error === null ? score(check, answer.text) : 0;
    return { ...answer, right: accuracy === null ? scored : expectedOf(answer, accuracy) };
  };
}
