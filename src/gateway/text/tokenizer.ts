/**
 * Turns text into token ids and back, with the model's own tokenizer.json.
 *
 * Encodes text to ids with the tokenizers library.
 */
import { setImmediate as yieldToEventLoop } from 'node:timers/promises';
import { boundaryOf, isQuick, LONG_PIECE_UNITS, textPieces } from './text-pieces.js';
import { tokenBytes, type TokenBytes, type TokenizerJson } from './token-bytes.js';
import { Tokenizer } from '@huggingface/tokenizers';
import { within } from '../../util/time-limit.js';

/** Like `TextTokenizer.encode`, but outside the event loop. */
export type EncodeInWorker = (text: string, addSpecial: boolean) => Promise<Iterable<number>>;

/** Time limit of a call in the event loop. A piece of the greatest length takes up to 46 ms of a core. */
const MOST_MS = 1500;

export class TextTokenizer {
  /** Throws TimeLimitError. @param addSpecial whether to add the begin and end tokens of the tokenizer */
  readonly encode: Encode;
  readonly #tokens: TokenBytes;
  /** Boundaries at which a long text may be cut; null if a cut would change the ids. */
  readonly #boundary: RegExp | null;
  /** The model reads ids from 0 to vocabulary - 1: an added token may lack a row in the embedding. */
  readonly vocabulary: number;
  /** Bytes of the longest token. */
  readonly #longest: number;
  /** Whether the tokens spell a text byte by byte, without normalization. */
  readonly #isVerbatim: boolean;

  /**
   * @param json the parsed tokenizer.json
   * @param rows of the model's embedding
   */
  constructor(json: unknown, rows = Infinity) {
    this.encode = hubTokenizer(json as object, MOST_MS);
    this.#tokens = tokenBytes(json as TokenizerJson);
    this.#boundary = this.#tokens.byteLevel ? boundaryOf(json as TokenizerJson) : null;
    this.vocabulary = Math.min(this.#tokens.bytes.length, rows);
    this.#longest = this.#tokens.bytes.reduce((most, token) => Math.max(most, token?.length ?? 0), 1);
    this.#isVerbatim = this.#tokens.byteLevel && ((json as TokenizerJson).normalizer ?? null) === null;
  }

  /** Whether a text must have more than `most` tokens, judged by its length alone, without encoding it. */
  mustExceed(text: string, most: number): boolean {
    // A normalizer may shorten a text in bytes, so only its UTF-16 units count.
    const length = this.#isVerbatim ? Buffer.byteLength(text) : text.length;
    return length > most * this.#longest;
  }

  /**
   * Like encode, but yields to the event loop between the pieces of a long text, and stops early.
   * @param encodeInWorker encodes a piece that is too long for the event loop and can't be cut
   * @returns null for more than `most` tokens
   */
  async encodeLong(
    text: string,
    addSpecial: boolean,
    most: number,
    encodeInWorker: EncodeInWorker,
  ): Promise<number[] | null> {
    const special = addSpecial ? this.encode('', true) : [];
    const boundary = special.length > 1 ? null : this.#boundary;
    // A single special token is a begin token.
    const ids = boundary === null ? [] : special;
    const ownSpecial = boundary === null && addSpecial;
    for (const piece of boundary === null ? [text] : textPieces(text, boundary)) {
      if (ids.length > 0) await yieldToEventLoop();
      const isLong = piece.length > LONG_PIECE_UNITS;
      for (const id of isLong ? await encodeInWorker(piece, ownSpecial) : this.encode(piece, ownSpecial)) ids.push(id);
      if (ids.length > most) return null;
    }
    return ids;
  }

  /** @returns the bytes of a token in text; none for special tokens and unknown ids */
  bytes(id: number): Uint8Array {
    return this.isSpecial(id) ? NO_BYTES : (this.#tokens.bytes[id] ?? NO_BYTES);
  }

  isSpecial(id: number): boolean {
    return this.#tokens.special.has(id);
  }

  /** @returns the bytes of a token, special tokens included, for log-probabilities */
  spelling(id: number): Uint8Array {
    return this.#tokens.bytes[id] ?? NO_BYTES;
  }

  /** The text of a token in the middle of a sequence, with its leading space. */
  spelt(id: number): string {
    return Buffer.from(this.spelling(id)).toString('utf8');
  }

  /** The text of a whole sequence; invalid UTF-8 becomes U+FFFD. */
  decode(ids: readonly number[], options: { readonly special: boolean } = { special: false }): string {
    const parts = ids.map((id) => (options.special ? this.spelling(id) : this.bytes(id)));
    const text = Buffer.concat(parts).toString('utf8');
    return this.#tokens.stripsLeadingSpace && text.startsWith(' ') ? text.slice(1) : text;
  }

  /**
   * Decodes the continuation of a prompt: a leading space is kept.
   * @param shown texts of special tokens that are part of the text
   */
  detokenizer({ special = false, shown = [] }: DetokenizerOptions = {}): Detokenizer {
    const isShown = (id: number): boolean => special || (this.isSpecial(id) && shown.includes(this.spelt(id)));
    return new Detokenizer((id) => (isShown(id) ? this.spelling(id) : this.bytes(id)));
  }
}

interface DetokenizerOptions {
  /** All special tokens are part of the text. */
  readonly special?: boolean;
  readonly shown?: readonly string[];
}

const NO_BYTES = new Uint8Array(0);

/** Turns token ids into text one at a time, in whole UTF-8 characters. */
export class Detokenizer {
  /** Keeps the bytes of an incomplete character; invalid bytes become U+FFFD. */
  readonly #decoder = new TextDecoder('utf-8', { ignoreBOM: true });

  constructor(private readonly bytesOf: (id: number) => Uint8Array) {}

  /** @returns the text that the token completes; empty while a character is incomplete */
  push(id: number): string {
    return this.#decoder.decode(this.bytesOf(id), { stream: true });
  }

  /** @returns the remaining text at the end: U+FFFD for an incomplete character */
  end(): string {
    return this.#decoder.decode();
  }
}

/** The part of the library that is used; its own types do not resolve under Node's module rules. */
interface Library {
  encode(text: string, options: { add_special_tokens: boolean }): { ids: number[] };
}
const Library = Tokenizer as unknown as new (json: object, config: object) => Library;

/** @param addSpecial whether to add the begin and end tokens of the tokenizer */
export type Encode = (text: string, addSpecial: boolean) => number[];

/**
 * The expressions of a model's tokenizer may need an exponential time. Those of known tokenizers do not, and a watch of
 * their time costs milliseconds on a busy machine.
 * @param json the parsed tokenizer.json
 * @param mostMs time limit of a call
 * @returns a function that throws TimeLimitError
 */
export function hubTokenizer(json: object, mostMs: number): Encode {
  const library = new Library(json, {});
  const known = isQuick(json as TokenizerJson);
  return (text, addSpecial) => {
    const encode = (): number[] => library.encode(text, { add_special_tokens: addSpecial }).ids;
    return known && text.length <= LONG_PIECE_UNITS ? encode() : within(mostMs, encode);
  };
}
