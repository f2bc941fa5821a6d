/**
 * Text to token ids and back, with the model's own tokenizer.json.
 *
 * Knows: the vocabulary. Must not know: requests, chat roles, the engine.
 */
import { setImmediate as yieldToEventLoop } from 'node:timers/promises';
import { Detokenizer } from './detokenizer.js';
import { hubTokenizer, type Encode } from './hub-tokenizer.js';
import { boundaryOf, LONG_PIECE, textPieces } from './text-pieces.js';
import { tokenBytes, type TokenBytes, type TokenizerJson } from './token-bytes.js';

/** Like `TextTokenizer.encode`, where nobody is held up by it. */
export type EncodeInWorker = (text: string, addSpecial: boolean) => Promise<Iterable<number>>;

export class TextTokenizer {
  /** @param addSpecial whether the tokenizer's own begin and end tokens are added, where it has any */
  readonly encode: Encode;
  readonly #tokens: TokenBytes;
  /** Where a long text may be cut; null where the ids would be others. */
  readonly #boundary: RegExp | null;
  /** Ids that the model can read run from 0 to vocabulary - 1: an added token may have no row in its embedding. */
  readonly vocabulary: number;
  /** Bytes of the longest token. */
  readonly #longest: number;
  /** Whether tokens spell a text byte by byte as it is written. */
  readonly #isVerbatim: boolean;

  /**
   * @param json the parsed tokenizer.json
   * @param rows of the model's embedding
   */
  constructor(json: unknown, rows = Infinity) {
    this.encode = hubTokenizer(json as object);
    this.#tokens = tokenBytes(json as TokenizerJson);
    this.#boundary = this.#tokens.byteLevel ? boundaryOf(json as TokenizerJson) : null;
    this.vocabulary = Math.min(this.#tokens.bytes.length, rows);
    this.#longest = this.#tokens.bytes.reduce((most, token) => Math.max(most, token?.length ?? 0), 1);
    this.#isVerbatim = this.#tokens.byteLevel && ((json as TokenizerJson).normalizer ?? null) === null;
  }

  /** Whether a text is too long to be no more than `most` tokens, whatever it says: known before it is encoded. */
  mustExceed(text: string, most: number): boolean {
    // A normalizer may join what is written as several bytes, so there only UTF-16 units count.
    const length = this.#isVerbatim ? Buffer.byteLength(text) : text.length;
    return length > most * this.#longest;
  }

  /**
   * Like encode, but lets others run between the pieces of a long text and stops early.
   * @param encodeInWorker encodes what is too long for one go and can't be cut
   * @returns null when there are more than `most` tokens
   */
  async encodeLong(
    text: string,
    addSpecial: boolean,
    most: number,
    encodeInWorker: EncodeInWorker,
  ): Promise<number[] | null> {
    const special = addSpecial ? this.encode('', true) : [];
    const boundary = special.length > 1 ? null : this.#boundary;
    // One special token is one at the beginning.
    const ids = boundary === null ? [] : special;
    const ownSpecial = boundary === null && addSpecial;
    for (const piece of boundary === null ? [text] : textPieces(text, boundary)) {
      if (ids.length > 0) await yieldToEventLoop();
      const isLong = piece.length > LONG_PIECE;
      for (const id of isLong ? await encodeInWorker(piece, ownSpecial) : this.encode(piece, ownSpecial)) ids.push(id);
      if (ids.length > most) return null;
    }
    return ids;
  }

  /** @returns the bytes of a token in text; none for special tokens and unknown ids. */
  bytes(id: number): Uint8Array {
    return this.isSpecial(id) ? NO_BYTES : (this.#tokens.bytes[id] ?? NO_BYTES);
  }

  isSpecial(id: number): boolean {
    return this.#tokens.special.has(id);
  }

  /** @returns the bytes of a token with special tokens spelt out, for log-probabilities. */
  spelling(id: number): Uint8Array {
    return this.#tokens.bytes[id] ?? NO_BYTES;
  }

  /** A token's own text: as in the middle of a sequence, with the space that it may begin with. */
  spelt(id: number): string {
    return Buffer.from(this.spelling(id)).toString('utf8');
  }

  /** The text of a whole sequence; bytes that are no UTF-8 become U+FFFD. */
  decode(ids: readonly number[], options: { readonly special: boolean } = { special: false }): string {
    const parts = ids.map((id) => (options.special ? this.spelling(id) : this.bytes(id)));
    const text = Buffer.concat(parts).toString('utf8');
    return this.#tokens.stripsLeadingSpace && text.startsWith(' ') ? text.slice(1) : text;
  }

  /** For a text that goes on from a prompt: no leading space is dropped. */
  detokenizer(options: { readonly special: boolean } = { special: false }): Detokenizer {
    return new Detokenizer((id) => (options.special ? this.spelling(id) : this.bytes(id)));
  }
}

const NO_BYTES = new Uint8Array(0);
