/**
 * Jobs of natural length: chat questions that state no limit, answered until the model ends the answer.
 *
 * Knows: questions, budgets, one client. Must not know: sides, load.
 */
import { seeded } from '../../src/simulate/workload.js';
import { complete, freely } from './client.js';
import type { Job } from './load.js';

/** Longest answer of full depth that the bench keeps, tokens. */
const LONGEST = 120;

/** Budgets as multiples of what full depth alone takes for the question on the idle machine. */
const CLASSES = { tight: 2, medium: 4, loose: 10 } as const;

/** A question that the bench keeps, and full depth's answer on the idle machine. */
export interface KnownQuestion {
  readonly question: string;
  /** Tokens of the answer, and what it took alone. */
  readonly tokens: number;
  readonly idleMs: number;
}

/**
 * Asks one question after the other at full depth, and keeps those whose answer ends by itself within 120 tokens.
 * @param most questions to keep; the file's later ones stay unasked
 * @throws Error where no question is left
 */
export async function idleQuestions(
  url: string,
  model: string,
  deepest: number,
  questions: readonly string[],
  most: number,
): Promise<KnownQuestion[]> {
  const headers = { 'x-exit-layer': String(deepest) };
  // The first answer pays for memory and bindings that all later ones find.
  await complete(url, model, freely(questions[0] ?? '', LONGEST), headers);
  const kept: KnownQuestion[] = [];
  let asked = 0;
  for (const question of questions) {
    if (kept.length >= most) break;
    asked += 1;
    const answer = await complete(url, model, freely(question, LONGEST), headers);
    if (answer.status !== 200) throw new Error(`the server answered ${answer.status} to: ${question}`);
    if (answer.finishReason === 'stop') kept.push({ question, tokens: answer.tokens, idleMs: answer.totalMs });
  }
  if (kept.length === 0) throw new Error(`no question has an answer of at most ${LONGEST} tokens at full depth`);
  const mean = (of: (each: KnownQuestion) => number): number =>
    kept.reduce((sum, each) => sum + of(each), 0) / kept.length;
  console.error(
    `idle, full depth: ${kept.length} of ${asked} answers end within ${LONGEST} tokens, with ` +
      `${mean(({ tokens }) => tokens).toFixed(0)} tokens in ${mean(({ idleMs }) => idleMs).toFixed(0)} ms on average`,
  );
  return kept;
}

/**
 * The same jobs for every side: the questions in a shuffled order that repeats, each in a class of its own. So a
 * question comes again only after all others, when its prompt's memory is gone.
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
