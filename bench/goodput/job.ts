/** The jobs of bench:goodput, and their sending to a side's server. */
import { ask, type Answered } from '../../src/load/ask.js';
import type { Send } from '../../src/load/run.js';
import { serverAt } from '../../src/remote/server.js';
import { seeded } from '../../src/util/random.js';
import type { CheckedRequest } from '../everyday/requests.js';
import { score } from '../everyday/score.js';
import type { BudgetClass } from './budgets.js';
import type { Side } from './side.js';

/** A question of the bench. A question without a check counts by its time alone. */
export interface Question {
  readonly text: string;
  readonly check: CheckedRequest | null;
}

/** One request of the bench, the same for every side. */
export interface Job extends BudgetClass {
  readonly id: string;
  readonly question: Question;
}

/** An answer with its score. */
export interface GoodputAnswer extends Answered {
  /** 0..1; null without a check. A failed answer has 0. */
  readonly right: number | null;
}

/** The same jobs for every side: the questions in a shuffled order that repeats, each in a random class. */
export function jobsOf(
  questions: readonly Question[],
  classes: readonly BudgetClass[],
  count: number,
  seed: number,
): Job[] {
  const random = seeded(seed);
  const order = shuffled(questions, random);
  return Array.from({ length: count }, (_, i) => order[i % order.length]).flatMap((question, i): Job[] => {
    const budget = classes[Math.floor(random() * classes.length)];
    return question === undefined || budget === undefined ? [] : [{ id: `q${i}`, question, ...budget }];
  });
}

export function shuffled<T>(items: readonly T[], random: () => number): T[] {
  return items
    .map((item) => ({ item, at: random() }))
    .sort((a, b) => a.at - b.at)
    .map(({ item }) => item);
}

/** Sends jobs to a server, greedily and without `max_tokens`. */
export function sender(
  url: string,
  model: string,
  { headers, fields }: Pick<Side, 'headers' | 'fields'>,
): Send<Job, GoodputAnswer> {
  const server = serverAt(url, null);
  return async ({ question: { text, check }, budgetMs }, scheduledAt) => {
    const messages = [{ role: 'user', content: text }];
    let answered = '';
    const answer = await ask(
      server,
      model,
      { path: '/chat/completions', body: { messages, temperature: 0, ...fields } },
      {
        headers: headers(budgetMs),
        scheduledAt,
        onPart: (part) => {
          answered += part.text;
        },
      },
    );
    const right = check === null ? null : answer.error === null ? score(check, answered) : 0;
    return { ...answer, right };
  };
}
