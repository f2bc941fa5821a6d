/**
 * The memory that answers take in the gateway until they are sent: a token, and each log-probability of one, is a
 * score.
 *
 * Must not know: forms of an answer.
 */
import { FairQuota } from '../../../util/fair-quota.js';
import { ApiError } from '../errors.js';

/** Most scores of a request: 64 answers of 8192 tokens, or 24,966 tokens with 20 alternatives each, 45 MB of JSON. */
export const MOST_SCORES = 2 ** 19;

/**
 * Most scores of the unfinished requests with log-probabilities of a tenant alone; all tenants have under twice as
 * many. A score takes about 80 bytes. Tokens without log-probabilities take few, and the queue bounds them.
 */
const MOST_TENANT_SCORES = 2 ** 20;

/** The part of a request that decides the number of its scores. */
export interface Scored {
  /** Answers to each prompt. */
  readonly n: number;
  /** Alternatives of each token; null: no log-probabilities. */
  readonly logprobs: number | null;
  /** Tokens of each prompt whose log-probabilities go out with its answers; 0 for none. */
  readonly promptTokens: readonly number[];
}

const eachOf = ({ logprobs }: Scored): number => 1 + (logprobs ?? 0);

/** Most tokens of an answer that keeps to the rule, for a request that states no length. */
export function longestScored(asked: Scored): number {
  const { n, promptTokens } = asked;
  const prompts = promptTokens.reduce((sum, tokens) => sum + tokens, 0);
  return Math.max(1, Math.floor((MOST_SCORES / (n * eachOf(asked)) - prompts) / promptTokens.length));
}

/**
 * The scores of a request.
 * @param longest most tokens of the answers to each prompt
 * @throws ApiError invalid_value for more than a request may have
 */
export function scoresOf(asked: Scored, longest: readonly number[]): number {
  const tokens = longest.reduce((sum, most, prompt) => sum + most + (asked.promptTokens[prompt] ?? 0), 0);
  const scores = asked.n * tokens * eachOf(asked);
  if (scores <= MOST_SCORES) return scores;
  const each = '1 + the log-probabilities of a token';
  const rule = `n times max_tokens times (${each}) must be at most ${MOST_SCORES}`;
  throw new ApiError('invalid_value', `${rule}, got ${scores}.`, 'max_tokens');
}

/** The scores of the requests that run. */
export class ScoreSum {
  readonly #shares = new FairQuota(MOST_TENANT_SCORES);

  /** @returns gives them back @throws ApiError overloaded */
  take(tenant: string, scores: number): () => void {
    if (scores === 0) return () => undefined;
    if (scores > this.#shares.available(tenant)) {
      const held = this.#shares.held(tenant);
      const message = `Unfinished requests of ${held} log-probabilities leave no room for ${scores}; try again shortly.`;
      throw new ApiError('overloaded', message, null, {}, 1000);
    }
    this.#shares.acquire(tenant, scores);
    return () => {
      this.#shares.release(tenant, scores);
    };
  }
}
