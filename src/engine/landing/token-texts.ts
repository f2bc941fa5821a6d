/**
 * The bytes of each token of the vocabulary, for reading an answer's text token by token.
 *
 * Bytes rather than a flag for each token: a mark may be split over tokens (`।` is three bytes, a fence two tokens).
 */
import { readFileSync } from 'node:fs';
import { tokenBytes, type TokenBytes, type TokenizerJson } from '../../gateway/text/token-bytes.js';

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
