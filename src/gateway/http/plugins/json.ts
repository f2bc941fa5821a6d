/** JSON bodies: parsed as Fastify does, with an error message that names the fault, and in bounded time. */
import { isUtf8 } from 'node:buffer';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { ApiError } from '../../api/errors.js';
import { MAX_NESTING } from '../../api/params/value-limits.js';

/** Most objects and arrays, and most commas: JSON.parse takes .1 s for each megabyte of them. */
const MAX_CONTAINERS = 50_000;
const MAX_COMMAS = 300_000;

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COMMA = 0x2c;
const OPEN_LIST = 0x5b;
const CLOSE_LIST = 0x5d;
const OPEN_OBJECT = 0x7b;
const CLOSE_OBJECT = 0x7d;

/**
 * Bounds the time that JSON.parse needs, in which no other request is served. It accepts texts that are not JSON.
 * @throws ApiError invalid_value for a text with too many levels or values
 */
function checkSize(json: Buffer): void {
  let levels = 0;
  let containers = 0;
  let commas = 0;
  let inText = false;
  for (let at = 0; at < json.length; at++) {
    const byte = json[at];
    if (byte === QUOTE) inText = !inText;
    else if (inText) at += byte === BACKSLASH ? 1 : 0;
    else if (byte === COMMA) commas++;
    else if (byte === CLOSE_LIST || byte === CLOSE_OBJECT) levels--;
    else if (byte === OPEN_LIST || byte === OPEN_OBJECT) {
      containers++;
      // The body itself is a level.
      if (++levels > MAX_NESTING + 1) throw tooLarge(`be nested at most ${MAX_NESTING} deep`);
    }
  }
  if (containers > MAX_CONTAINERS) throw tooLarge(`have at most ${MAX_CONTAINERS} objects and arrays`);
  if (commas > MAX_COMMAS) throw tooLarge(`have at most ${MAX_COMMAS} commas`);
}

function tooLarge(rule: string): ApiError {
  return new ApiError('invalid_value', `The body must ${rule}.`);
}

/** The fault of a body that was not parsed, by Node.js. It may quote a few characters of the text. */
function faultOf(text: string): string {
  try {
    JSON.parse(text);
    return 'has a key named __proto__, or prototype within constructor, which no body may have';
  } catch (error) {
    return `is not valid JSON: ${error instanceof Error ? error.message : String(error)}`;
  }
}

export function registerJson(app: FastifyInstance): void {
  const parse = app.getDefaultJsonParser('error', 'error');
  app.removeContentTypeParser('application/json');
  app.addContentTypeParser<Buffer>('application/json', { parseAs: 'buffer' }, (request: FastifyRequest, body, done) => {
    if (!isUtf8(body)) throw new ApiError('invalid_json', 'The body is not valid JSON: its bytes are not UTF-8.');
    checkSize(body);
    const text = body.toString('utf8');
    void parse(request, text, (error, value) => {
      if (error === null || text === '') done(error, value);
      else done(new ApiError('invalid_json', `The body ${faultOf(text)}.`));
    });
  });
}
