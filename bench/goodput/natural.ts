/** Jobs of natural length: chat questions without a limit, answered until the model ends the answer. */
import { ask } from '../../src/load/ask.js';
import { serverAt } from '../../src/remote/server.js';
import { seeded } from '../../src/util/random.js';
import { freely } from './asked.js';
import type { Job } from './job.js';

/** Longest answer of full depth that the bench keeps, in tokens. */
const LONGEST_TOKENS = 120;

/** Budgets as multiples of the time of full depth for the question on the idle machine. */
const CLASSES = { tight: 2, medium: 4, loose: 10 } as const;

/** A question of the bench, with full depth's answer on the idle machine. */
export interface KnownQuestion {
  readonly question: string;
  /** Tokens of the answer; `idleMs` is its time without other requests. */
  readonly tokens: number;
  readonly idleMs: number;
}

/**
 * Asks one question after the other at full depth, and keeps questions with an answer of at most 120 tokens.
 * @param most questions to keep; later questions of the file are not asked
 * @throws Error if no question is left
 */
export async function idleQuestions(
  url: string,
  model: string,
  deepest: number,
  questions: readonly string[],
  most: number,
): Promise<KnownQuestion[]> {
  const headers = { 'x-exit-layer': String(deepest) };
  // The first answer allocates memory and bindings that later answers reuse.
  const server = serverAt(url, null);
  await ask(server, model, freely(questions[0] ?? '', LONGEST_TOKENS), { headers });
  const kept: KnownQuestion[] = [];
  let asked = 0;
  for (const question of questions) {
    if (kept.length >= most) break;
    asked++;
    const answer = await ask(server, model, freely(question, LONGEST_TOKENS), { headers });
    if (answer.error !== null) throw new Error(`the server failed "${question}": ${answer.error.message}`);
    if (answer.finishReason === 'stop') kept.push({ question, tokens: answer.tokens, idleMs: answer.totalMs });
  }
  if (kept.length === 0) throw new Error(`no question has an answer of at most ${LONGEST_TOKENS} tokens at full depth`);
  const mean = (of: (each: KnownQuestion) => number): number =>
    kept.reduce((sum, each) => sum + of(each), 0) / kept.length;
  console.error(
    `idle, full depth: ${kept.length} of ${asked} answers end within ${LONGEST_TOKENS} tokens, with ` +
      `${mean(({ tokens }) => tokens).toFixed(0)} tokens in ${mean(({ idleMs }) => idleMs).toFixed(0)} ms on average`,
  );
  return kept;
}

/**
 * The same jobs for every side: the questions in a shuffled order that repeats, each in a random class. A question
 * repeats only after all others, when the prefix cache has lost its prompt.
 */
export function naturalJobs(known: readonly KnownQuestion[], limit: number, seed: number): Job[] {
  const random = seeded(seed);
  const order = known
    .map((each) => ({ each, at: random() }))
    .sort((a, b) => a.at - b.at)
    .map(({ each }) => each);
  const names = Object.keys(CLASSES) as (keyof typeof CLASSES)[];
  return Array.from({ length: limit }, (_, i) => order[i % order.length]).flatMap((each, i): Job[] => {
    const budgetClass = names[Math.floor(random() * names.length)];
    if (each === undefined || budgetClass === undefined) return [];
    const { question, tokens, idleMs } = each;
    const budgetMs = CLASSES[budgetClass] * idleMs;
    return [{ id: `q${i}`, budgetClass, budgetMs, tokens, isExact: false, asked: freely(question) }];
  });
}
