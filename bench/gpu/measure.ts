/** The measurements of bench:gpu on a running engine process, through the messages that the gateway uses. */
import type { EngineClient } from '../../src/gateway/engine-client/client.js';
import type { TokenEvent } from '../../src/protocol/index.js';
import { monotonicMs } from '../../src/util/clock.js';
import { answerOf } from '../engine-answer.js';
import { engineRate } from '../engine-side.js';
import { greedy, GREEDY_BASE } from '../greedy-request.js';
import type { Rate } from '../scenario.js';

/** Two logits this close swap in half precision. A difference at such a token is a near-tie, not a fault. */
const NEAR_TIE = 0.02;

export interface Greedy {
  readonly prompt: readonly number[];
  readonly tokens: readonly number[];
  /** Log-probability of each token above the next one. */
  readonly margins: readonly number[];
}

/** Answers of greedy requests at one exit, `parallel` at a time. */
export async function greedyAnswers(
  engine: EngineClient,
  exit: number,
  prompts: readonly (readonly number[])[],
  parallel: number,
  tokens: number,
): Promise<Greedy[]> {
  const answers = new Array<Greedy>(prompts.length);
  let next = 0;
  const serve = async (): Promise<void> => {
    for (let index = next++; index < prompts.length; index = next++) {
      const prompt = prompts[index] ?? [];
      const events: TokenEvent[] = [];
      const fields = { sampling: GREEDY_BASE, logprobs: 2 };
      await answerOf(engine, greedy(`greedy-${exit}-${index}`, prompt, exit, tokens, fields), (event) =>
        events.push(event),
      );
      const margins = events.map(({ logprobs }) => (logprobs?.top[0]?.[1] ?? NaN) - (logprobs?.top[1]?.[1] ?? NaN));
      answers[index] = { prompt, tokens: events.map(({ token }) => token), margins };
    }
  };
  await Promise.all(Array.from({ length: parallel }, serve));
  return answers;
}

export interface Agreement {
  readonly answers: number;
  /** Answers with the same tokens to the end. */
  readonly equal: number;
  /** Answers whose first difference is at a near-tie of the reference. */
  readonly nearTies: number;
  /** Answers with a first difference elsewhere: a fault, or a loss of precision. */
  readonly different: number;
  /** Share of tokens before the first difference, near-ties aside. */
  readonly agreement: number;
}

export function agreement(reference: readonly Greedy[], measured: readonly Greedy[]): Agreement {
  let [equal, nearTies, same, all] = [0, 0, 0, 0];
  for (const [index, { tokens, margins }] of reference.entries()) {
    const other = measured[index]?.tokens ?? [];
    const first = tokens.findIndex((token, at) => token !== other[at]);
    const tie = first >= 0 && (margins[first] ?? Infinity) < NEAR_TIE;
    if (first < 0) equal++;
    else if (tie) nearTies++;
    same += first < 0 ? tokens.length : first;
    all += tie ? first : tokens.length;
  }
  const answers = reference.length;
  return { answers, equal, nearTies, different: answers - equal - nearTies, agreement: same / all };
}

/**
 * Answers the same prompts one by one until the time is over. One row has one shape of batch, so its tokens are equal
 * every time; a copy that a run overtakes changes them.
 */
export async function stress(
  engine: EngineClient,
  exits: readonly number[],
  prompts: readonly (readonly number[])[],
  seconds: number,
): Promise<{ readonly tokens: number; readonly answers: number; readonly different: number }> {
  const expected = new Map<string, string>();
  const until = monotonicMs() + 1000 * seconds;
  let [tokens, answers, different] = [0, 0, 0];
  while (monotonicMs() < until)
    for (const exit of exits)
      for (const answer of await greedyAnswers(engine, exit, prompts, 1, 32)) {
        const key = `${exit}/${answer.prompt.join()}`;
        const text = answer.tokens.join();
        if ((expected.get(key) ?? text) !== text) different++;
        expected.set(key, text);
        tokens += answer.tokens.length;
        answers++;
      }
  return { tokens, answers, different };
}

/** Rates at numbers of rows, after a short warm-up of each. */
export async function rates(
  engine: EngineClient,
  exit: number,
  rows: readonly number[],
): Promise<Record<string, Rate>> {
  const found: Record<string, Rate> = {};
  for (const [index, parallel] of rows.entries()) {
    await engineRate(engine, exit, { parallel, promptTokens: 32, answerTokens: 8 }, 50_000 * (index + 1));
    // A step prefills one prompt. The first answer ends after the last one has begun, so decode steps have all rows.
    const scenario = { parallel, promptTokens: 32, answerTokens: 65 + parallel };
    found[String(parallel)] = await engineRate(engine, exit, scenario, 50_000 * (index + 1) + 10_000);
  }
  return found;
}
