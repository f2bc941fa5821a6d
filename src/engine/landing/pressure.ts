/**
 * End pressure: an amount that is added to the logits of the end tokens where a text may end.
 *
 * Pure functions. Must not know: tokens, logits, sequences.
 *
 * The bytes of each token of the vocabulary, for reading an answer's text token by token.
 *
 * Bytes rather than a flag for each token: a mark may be split over tokens (`।` is three bytes, a fence two tokens).
 */
import type { LandingPace } from '../scheduler/step-plan.js';
import type { LandingWindow } from '../scheduler/types.js';
import type { MayEnd } from '../../gateway/text/sentences/sentence-scanner.js';
import { readFileSync } from 'node:fs';
import { tokenBytes, type TokenBytes, type TokenizerJson } from '../../gateway/text/token-bytes.js';

/** The tunables of a landing. */
export const LANDING = {
  /**
   * Largest amount at a natural end, at the end of the window. An end of probability 1:3000 is an even chance there.
   */
  most: 8,
  /** Amount that forces an end. Logits of a row differ by less than 40. */
  forced: 50,
  /**
   * Least probability, at temperature 1, of an end that is the model's own: of ten such answers one would end there. An
   * end below it is the budget's, and `finish_reason` says `length`.
   */
  ownEnd: 0.1,
  /** Thoughts end by this share of the window before its begin, so that an answer has as much time again. */
  thoughtsShare: 0.5,
} as const;

/** The amount on the logits of the end tokens for one token of an answer. */
export interface EndPressure {
  readonly amount: number;
  /**
   * Whether the model's preferred next token shows that the sentence goes on, and lifts the pressure. Null: none does.
   */
  readonly isLifted: ((next: number) => boolean) | null;
}

/** @returns 0 for an unchanged answer */
export function endPressure(
  { opensAt, endsAt, sentenceTokens }: LandingWindow,
  { decodesAt, tokenMs }: LandingPace,
  mayEnd: MayEnd,
): number {
  // A long sentence may fill more than half of a short budget: an end before the window would be too early for most.
  if (mayEnd === 'no' || decodesAt <= opensAt) return 0;
  // From a later place, the next end would not come in time. The end token takes a step of its own.
  const lastAt = endsAt - (sentenceTokens + 1) * tokenMs;
  if (decodesAt >= lastAt) return LANDING.forced;
  return mayEnd === 'line_break' ? 0 : (LANDING.most * (decodesAt - opensAt)) / (lastAt - opensAt);
}

/** Whether the closing token of thoughts is due. */
export function thoughtsEnd({ opensAt, endsAt }: LandingWindow, { decodesAt, tokenMs }: LandingPace): boolean {
  return decodesAt + tokenMs >= opensAt - LANDING.thoughtsShare * (endsAt - opensAt);
}

export class TokenTexts {
  /** The bytes of all tokens, one after another: an array for each would take several times the memory. */
  readonly #bytes: Uint8Array;
  /** Token i has the bytes from #starts[i] to #starts[i + 1]. */
  readonly #starts: Uint32Array;

  /** @param tokens by id; special tokens have no text */
  constructor({ bytes, special }: Pick<TokenBytes, 'bytes' | 'special'>) {
    const texts = Array.from(bytes, (token, id) => (token === undefined || special.has(id) ? [] : token));
    this.#starts = new Uint32Array(texts.length + 1);
    texts.forEach((text, id) => (this.#starts[id + 1] = (this.#starts[id] ?? 0) + text.length));
    this.#bytes = new Uint8Array(this.#starts.at(-1) ?? 0);
    texts.forEach((text, id) => {
      this.#bytes.set(text, this.#starts[id]);
    });
  }

  /** The bytes of a token; none for special tokens and unknown ids. */
  of(token: number): Uint8Array {
    return this.#bytes.subarray(this.#starts[token] ?? 0, this.#starts[token + 1] ?? this.#starts[token] ?? 0);
  }
}

/** @param path of a model's tokenizer.json @throws Error if it can't be read */
export function readTokenTexts(path: string): TokenTexts {
  return new TokenTexts(tokenBytes(JSON.parse(readFileSync(path, 'utf8')) as TokenizerJson));
}
