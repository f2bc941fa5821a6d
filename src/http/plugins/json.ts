/** JSON bodies: parsed as Fastify does, with an error message that names the fault. */
import { isUtf8 } from 'node:buffer';
import { setImmediate as turn } from 'node:timers/promises';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { ApiError } from '../../api/errors.js';
import { JsonScan } from '../json-scan.js';

/** Bytes that are scanned before other requests have their turn. */
const SCAN_BYTES = 2 ** 18;
/** A smaller body takes less than 2 ms in all. */
const SMALL_BYTES = 2 ** 16;

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
