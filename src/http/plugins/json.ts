/** JSON bodies: parsed as Fastify does, with an error message that names the fault, and in bounded time. */
import { isUtf8 } from 'node:buffer';
import { setImmediate as turn } from 'node:timers/promises';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { ApiError } from '../../api/errors.js';
import { MAX_NESTING } from '../../api/params/value-limits.js';

/** Bytes that are scanned before other requests have their turn. */
const SCAN_BYTES = 2 ** 18;
/** A smaller body takes less than 2 ms in all. */
const SMALL_BYTES = 2 ** 16;

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

/** Keys with a meaning in JavaScript. A body with one of them is rejected. */
const FORBIDDEN = 'has a key named __proto__, or prototype within constructor, which no body may have';

const LINE_FEED = 0x0a;

/** The place of a character as line and column, counted from 1 as in editors. */
function placeOf(text: string, position: number): string {
  let lines = 1;
  let start = 0;
  for (let at = 0; at < position; at++) {
    if (text.charCodeAt(at) !== LINE_FEED) continue;
    lines++;
    start = at + 1;
  }
  return `line ${lines}, column ${position - start + 1}`;
}

/** The error message of Node.js, with the place as line and column. It may quote a few characters of the text. */
function wrongIn(text: string): string {
  try {
    JSON.parse(text);
    return FORBIDDEN;
  } catch (error) {
    const said = error instanceof Error ? error.message : String(error);
    const reason = said
      .replace(/ is not valid JSON$/, '')
      .replace(/ in JSON at position (\d+)[^]*$/, (_, at: string) => ` at ${placeOf(text, Number(at))}`);
    return `is not valid JSON: ${reason}`;
  }
}

/** Scans a body in parts. @throws ApiError invalid_value, or invalid_json for bytes that are not UTF-8 */
async function scan(body: Buffer): Promise<void> {
  if (!isUtf8(body)) throw new ApiError('invalid_json', 'The body is not valid JSON: its bytes are not UTF-8.');
  const json = new JsonScan(body);
  while (json.next(SCAN_BYTES)) await turn();
}

export function registerJson(app: FastifyInstance): void {
  const parse = app.getDefaultJsonParser('error', 'error');
  const parsed = (request: FastifyRequest, text: string): Promise<unknown> =>
    new Promise((resolve, reject) => {
      void parse(request, text, (error, value) => {
        if (error === null) resolve(value);
        else reject(error);
      });
    });
  app.removeContentTypeParser('application/json');
  app.addContentTypeParser<Buffer>(
    'application/json',
    { parseAs: 'buffer' },
    async (request: FastifyRequest, body: Buffer) => {
      await scan(body);
      const isLarge = body.length > SMALL_BYTES;
      const text = body.toString('utf8');
      if (isLarge) await turn();
      try {
        return await parsed(request, text);
      } catch (error) {
        if (text.length === 0) throw error;
        if (isLarge) await turn();
        throw new ApiError('invalid_json', `The body ${wrongIn(text)}.`);
      } finally {
        // Validation follows, and is the next piece of work.
        if (isLarge) await turn();
      }
    },
  );
}

/**
 * A scan of a JSON text before it is parsed. It bounds the time that JSON.parse needs: a second for a few megabytes of
 * brackets, in which no other request is served. The scan costs 1 to 2 ms for each megabyte. It accepts texts that are
 * not JSON.
 */
class JsonScan {
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
