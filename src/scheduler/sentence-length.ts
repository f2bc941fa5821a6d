/**
 * Learns how many tokens pass until a text may end, from the answers of the engine.
 *
 * Must not know: texts, time.
 */
import type { Policy } from './policy.js';

type Tunables = Pick<Policy, 'sentenceQuantile' | 'sentenceTokens' | 'sentenceGain'>;

/** The present sentence of an answer. */
export class SentenceState {
  /** Tokens since the text could end. */
  tokens = 0;
  /** The text could not end so far. */
  isFirst = true;
  /** The text could end behind the last token. */
  couldEnd = false;
  /** The lengths have learnt that these tokens are more than expected. */
  exceeds = false;
}

/** A quantile that follows its observations: each moves it by a share of itself, up where it exceeds, else down. */
class Quantile {
  #tokens: number;

  constructor(private readonly policy: Tunables) {
    this.#tokens = policy.sentenceTokens;
  }

  get tokens(): number {
    return this.#tokens;
  }

  observe(exceeds: boolean): void {
    const { sentenceQuantile, sentenceGain } = this.policy;
    const share = exceeds ? sentenceQuantile : sentenceQuantile - 1;
    this.#tokens = Math.max(1, this.#tokens * Math.exp(sentenceGain * share));
  }
}

export class SentenceLength {
  readonly #first: Quantile;
  readonly #next: Quantile;

  constructor(policy: Tunables) {
    this.#first = new Quantile(policy);
    this.#next = new Quantile(policy);
  }

  /** Tokens of an answer until it may end for the first time, at the quantile. */
  get first(): number {
    return this.#first.tokens;
  }

  /** The same from one sentence boundary to the next. */
  get next(): number {
    return this.#next.tokens;
  }

  /** Learns from an answer's next token. Tokens that are too many count at once: their answer may end without another. */
  learn(sentence: SentenceState, couldEnd: boolean): void {
    const quantile = sentence.isFirst ? this.#first : this.#next;
    sentence.tokens++;
    if (!sentence.exceeds && sentence.tokens > quantile.tokens) {
      sentence.exceeds = true;
      quantile.observe(true);
    }
    if (couldEnd) {
      // A quotation mark behind an end is the same end.
      if (!sentence.exceeds && !sentence.couldEnd) quantile.observe(false);
      sentence.tokens = 0;
      sentence.exceeds = false;
      sentence.isFirst = false;
    }
    sentence.couldEnd = couldEnd;
  }
}
