/**
 * JSON bodies: read as Fastify reads them, but what is wrong with one is told.
 *
 * Knows: JSON text. Must not know: what a body means.
 */
import type { FastifyInstance } from 'fastify';
import { ApiError } from '../../api/errors.js';

/** Names that code elsewhere could take for its own: no body has them. */
const FORBIDDEN = 'has a key named __proto__, or prototype within constructor, which no body may have';

/** Where a character is, counted from 1, as editors do. */
function placeOf(text: string, position: number): string {
  const before = text.slice(0, position).split('\n');
  return `line ${before.length}, column ${(before.at(-1) ?? '').length + 1}`;
}

/** What Node.js says of a text, with a place that can be found; a few characters of the text may be in it. */
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

export function registerJson(app: FastifyInstance): void {
  const parse = app.getDefaultJsonParser('error', 'error');
  app.removeContentTypeParser('application/json');
  app.addContentTypeParser<string>('application/json', { parseAs: 'string' }, (request, body, done) => {
    void parse(request, body, (error, value) => {
      const isEmpty = body.length === 0;
      if (error === null || isEmpty) done(error, value);
      else done(new ApiError('invalid_json', `The body ${wrongIn(body)}.`));
    });
  });
}
