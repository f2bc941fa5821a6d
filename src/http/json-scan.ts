/**
 * A scan of a JSON text before it is parsed. It bounds the time that JSON.parse needs.
 *
 * JSON.parse takes a second for a few megabytes of brackets, and no other request is served meanwhile. The scan costs
 * 1 to 2 ms for each megabyte. It accepts texts that are not JSON.
 */
import { MAX_NESTING } from '../api/params/value-limits.js';
import { ApiError } from '../api/errors.js';

/** Most levels of a body: its own object, and MAX_NESTING levels in a field. */
const MAX_LEVELS = MAX_NESTING + 1;
/** Most objects and arrays. */
const MAX_CONTAINERS = 50_000;
/** Most keys that are not numbers. A new object with 20,000 different keys takes 5 to 10 ms. */
const MAX_KEYS = 20_000;
/** Most values. A list of so many token ids takes 6 ms to parse and as long to validate. */
const MAX_VALUES = 300_000;
/** Longest key that counts as a number, such as a token id in `logit_bias`. */
const MAX_NUMBER_DIGITS = 7;

const [QUOTE, BACKSLASH, COMMA, COLON] = [0x22, 0x5c, 0x2c, 0x3a];
const [OPEN_LIST, CLOSE_LIST, OPEN_OBJECT, CLOSE_OBJECT] = [0x5b, 0x5d, 0x7b, 0x7d];
const [ZERO, NINE] = [0x30, 0x39];

export class JsonScan {
  readonly #json: Buffer;
  #at = 0;
  #inString = false;
  #levels = 0;
  #containers = 0;
  #keys = 0;
  #values = 1;
  /** Start and end of the last string, and of the last string directly in the body's object. */
  #string: readonly [number, number] = [0, 0];
  #field: readonly [number, number] = [0, 0];
  #start = 0;

  constructor(json: Buffer) {
    this.#json = json;
  }

  /**
   * Scans the next bytes.
   * @returns whether bytes are left
   * @throws ApiError invalid_value for a text with too many levels or values
   */
  next(bytes: number): boolean {
    const end = Math.min(this.#json.length, this.#at + bytes);
    while (this.#at < end) {
      const byte = this.#json[this.#at] ?? 0;
      if (this.#inString) this.#inText(byte);
      else this.#between(byte);
      this.#at++;
    }
    return this.#at < this.#json.length;
  }

  #inText(byte: number): void {
    // The byte after a backslash is never the end.
    if (byte === BACKSLASH) this.#at++;
    if (byte !== QUOTE) return;
    this.#inString = false;
    this.#string = [this.#start, this.#at + 1];
    if (this.#levels === 1) this.#field = this.#string;
  }

  #between(byte: number): void {
    if (byte === QUOTE) {
      this.#inString = true;
      this.#start = this.#at;
    } else if (byte === COMMA) {
      if (++this.#values > MAX_VALUES) throw tooMany(MAX_VALUES, 'values');
    } else if (byte === COLON) {
      if (!this.#isNumber() && ++this.#keys > MAX_KEYS) throw tooMany(MAX_KEYS, 'keys');
    } else if (byte === OPEN_LIST || byte === OPEN_OBJECT) {
      if (++this.#levels > MAX_LEVELS) throw tooDeep(this.#fieldName());
      if (++this.#containers > MAX_CONTAINERS) throw tooMany(MAX_CONTAINERS, 'objects and arrays');
    } else if (byte === CLOSE_LIST || byte === CLOSE_OBJECT) {
      this.#levels--;
    }
  }

  /** Whether the last string is a number without a sign. */
  #isNumber(): boolean {
    const [start, end] = this.#string;
    if (end - start - 2 > MAX_NUMBER_DIGITS) return false;
    for (let at = start + 1; at < end - 1; at++) {
      const byte = this.#json[at] ?? 0;
      if (byte < ZERO || byte > NINE) return false;
    }
    return true;
  }

  /** The field of the body's object that is being scanned; null outside of an object. */
  #fieldName(): string | null {
    try {
      return JSON.parse(this.#json.toString('utf8', ...this.#field)) as string;
    } catch {
      return null;
    }
  }
}

function tooMany(most: number, things: string): ApiError {
  return new ApiError('invalid_value', `The body must have at most ${most} ${things}.`);
}

/** @param field the client may have made up the name, which may be as long as the body */
function tooDeep(field: string | null): ApiError {
  const param = field?.slice(0, 40) ?? null;
  return new ApiError('invalid_value', `${param ?? 'The body'} must be nested at most ${MAX_NESTING} deep.`, param);
}
