/** The questions and jobs of bench:goodput, and their sending to a side's server. */
import { ask, type Answered } from '../loadgen/ask.js';
import { type BudgetClass, NO_BUDGET } from '../loadgen/budgets.js';
import { type BenchJob, type Form, questionJobs, shuffled } from '../loadgen/jobs.js';
import { readQuestions } from '../loadgen/questions.js';
import type { Send } from '../loadgen/run.js';
import { serverAt } from '../remote/server.js';
import { seeded } from '../../src/util/random.js';
import { type CheckedRequest, type Half, isChecked, readRequests, REQUESTS } from '../everyday/requests.js';
import { score } from '../everyday/score.js';
import { BEHIND, type Side } from './side.js';

/** A question of the bench. A question without a check counts by its time alone. */
export interface Question {
  readonly text: string;
  readonly check: CheckedRequest | null;
}

/** One request of the bench, the same for every side. */
export interface Job extends BenchJob {
  readonly check: CheckedRequest | null;
}

/** An answer with its score. */
export interface GoodputAnswer extends Answered {
  /** 0..1; null without a check. A failed answer has 0. */
  readonly right: number | null;
}

/** Seed of the sample, the same for all runs. */
const SAMPLE_SEED = 7;

/** The checked everyday requests of a half. */
export function checkedQuestions(half: Half): Question[] {
  return readRequests(REQUESTS)
    .filter(isChecked)
    .filter((request) => request.half === half)
    .map((check) => ({ text: check.request, check }));
}

/** A random sample of a file's questions, without regard to their answers. @param most questions of the sample */
export function sampledQuestions(file: string, most: number): Question[] {
  return shuffled(readQuestions(file), seeded(SAMPLE_SEED))
    .slice(0, most)
    .map((text) => ({ text, check: null }));
}

/**
 * Reads total budgets such as `500,1000,2000` in ms, or `1x,2x,4x` as multiples of a time. Those of the first token have
 * `ttft:` before them.
 * @param medianMs the median time of full depth alone over the questions
 * @param ttftMs the same of its first token
 * @throws Error that names the option, its rule and the value
 */
export function budgetsOf(text: string, medianMs: number, ttftMs = medianMs): BudgetClass[] {
  return text.split(',').map((name) => {
    const [, ttft, number = '', unit] = /^(ttft:)?(\d+(?:\.\d+)?)(x?)$/.exec(name.trim()) ?? [];
    const value = Number(number);
    if (!(value > 0))
      throw new Error(`--budgets must be positive ms or multiples such as 2x, separated by commas, got "${text}"`);
    const ms = Math.round(unit === 'x' ? value * (ttft === undefined ? medianMs : ttftMs) : value);
    return { name: name.trim(), budget: { ...NO_BUDGET, [ttft === undefined ? 'totalMs' : 'ttftMs']: ms } };
  });
}

/** The limit and further fields of every request. */
export type JobForm = Partial<Pick<Form, 'maxTokens' | 'fields'>>;

/** The same jobs for every side: greedy. @param form of all; absent: no limit */
export function jobsOf(
  questions: readonly Question[],
  classes: readonly BudgetClass[],
  count: number,
  seed: number,
  { maxTokens = null, fields }: JobForm = {},
): Job[] {
  const checks = new Map(questions.map(({ text, check }) => [text, check]));
  const form = { api: 'chat', maxTokens, fields: { temperature: 0, ...fields } } as const;
  return questionJobs([...checks.keys()], classes, count, form, seeded(seed)).map((job) => {
    return { ...job, check: checks.get(job.question) ?? null };
  });
}

/** The body of a chat with a text behind its last message. */
function hinted(body: Readonly<Record<string, unknown>>, hint: string): Readonly<Record<string, unknown>> {
  if (hint === '') return body;
  const messages = body.messages as readonly { readonly role: string; readonly content: string }[];
  return {
    ...body,
    messages: messages.map((message, i) =>
      i === messages.length - 1 ? { ...message, content: message.content + hint } : message,
    ),
  };
}

/**
 * The accuracy of the exits of a whole answer; 0 for another one.
 * @param accuracy by exit; null: nothing is expected
 */
function expectedOf(
  { outcome, exits, tokens, isPromptExit }: Answered,
  accuracy: ReadonlyMap<string, number> | null,
): number | null {
  if (accuracy === null) return null;
  if ((outcome !== 'whole' && outcome !== 'late') || exits === null) return 0;
  if (isPromptExit === true) return accuracy.get(BEHIND) ?? 0;
  return Object.entries(exits).reduce((sum, [exit, count]) => sum + (count / tokens) * (accuracy.get(exit) ?? 0), 0);
}

/**
 * Sends jobs to a server with the headers and fields of a side.
 * @param accuracy of each exit, which scores whole answers to questions without a check
 */
export function sender(
  url: string,
  model: string,
  { headers, fields, hint, aborts = false }: Pick<Side, 'headers' | 'fields' | 'hint' | 'aborts'>,
  accuracy: ReadonlyMap<string, number> | null = null,
): Send<Job, GoodputAnswer> {
  const server = serverAt(url, null);
  return async ({ asked: { path, body }, budget, check }, scheduledAt) => {
    let answered = '';
    const { totalMs } = budget;
    const leftMs = scheduledAt + (totalMs ?? Infinity) - performance.now();
    const signal = aborts && totalMs !== null ? AbortSignal.timeout(Math.max(0, Math.ceil(leftMs))) : undefined;
    const answer = await ask(
      server,
      model,
      { path, body: { ...hinted(body, hint), ...fields(budget) } },
      {
        headers: headers(budget),
        scheduledAt,
        ...(signal !== undefined && { signal }),
        onPart: ({ text }) => {
          answered += text;
        },
      },
    );
    const right = check === null ? expectedOf(answer, accuracy) : answer.error === null ? score(check, answered) : 0;
    return { ...answer, right };
  };
}
