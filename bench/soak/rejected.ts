/** Is the least budget true that a rejection names? A client repeats each rejected request with it, beside others. */
import { ask, askRejected, type Honest, newTally, type Tally } from './honest.js';

const BESIDE = 4;

/**
 * @param client without its budgets
 * @param count rejections
 * @returns what the client saw
 */
export async function followRejections(client: Omit<Honest, 'budgets'>, count: number): Promise<Tally> {
  const over = new AbortController();
  const beside = { ...client, body: { max_tokens: 32 }, budgets: [4000, 8000, 16_000], pauseMs: 500 };
  const others = Array.from({ length: BESIDE }, () => ask(beside, newTally(), over.signal));
  const tally = newTally();
  await askRejected({ ...client, budgets: [] }, count, tally);
  over.abort();
  await Promise.all(others);
  return tally;
}

/** A sentence with the shares. @param answers choices of a request */
export function rejectionsLine(answers: number, { rejected, followed, followedKept, never, unnamed }: Tally): string {
  const kept = followed === 0 ? '-' : (followedKept / followed).toFixed(3);
  return (
    `${answers} answers a request: ${rejected} rejections named a budget, ${followed} were accepted with it at once ` +
    `(${(followed / rejected).toFixed(3)}), ${followedKept} of them kept (${kept}); ${never} chains of 8 had no end, ` +
    `${unnamed} rejections named none`
  );
}
