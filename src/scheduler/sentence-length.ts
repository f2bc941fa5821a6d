/**
 * Learns how many tokens pass until a text may end, from the answers of the engine.
 *
 * Must not know: texts, time.
 */
import { LANDING } from '../engine/landing/pressure.js';
import type { TextState } from '../engine/landing/text-state.js';

/** A quantile that follows its observations: each moves it by a share of itself, up where it exceeds, else down. */
class Quantile {
  #tokens: number = LANDING.sentenceTokens;

  get tokens(): number {
    return this.#tokens;
  }

  observe(exceeds: boolean): void {
    const share = exceeds ? LANDING.quantile : LANDING.quantile - 1;
    this.#tokens = Math.max(1, this.#tokens * Math.exp(LANDING.gain * share));
  }
}

export class SentenceTokens {
  readonly #first = new Quantile();
  readonly #next = new Quantile();

  /** Tokens of an answer until it may end for the first time, at the quantile of LANDING. */
  get first(): number {
    return this.#first.tokens;
  }

  /** The same from one place to the next. */
  get next(): number {
    return this.#next.tokens;
  }

  /** Learns from an answer's next token. Tokens that are too many count at once: their answer may end without another. */
  learn(text: TextState): void {
    const quantile = text.isFirst ? this.#first : this.#next;
    const couldEnd = text.place.mayEnd !== 'no';
    text.tokens++;
    if (!text.exceeds && text.tokens > quantile.tokens) {
      text.exceeds = true;
      quantile.observe(true);
    }
    if (couldEnd) {
      // A quotation mark behind an end is the same end.
      if (!text.exceeds && !text.couldEnd) quantile.observe(false);
      text.tokens = 0;
      text.exceeds = false;
      text.isFirst = false;
    }
    text.couldEnd = couldEnd;
  }
}
