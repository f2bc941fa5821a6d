/** JSON bodies: parsed as Fastify does, with an error message that names the fault. */
import type { FastifyInstance } from 'fastify';
import { ApiError } from '../../api/errors.js';

/** Keys with a meaning in JavaScript. A body with one of them is rejected. */
const FORBIDDEN = 'has a key named __proto__, or prototype within constructor, which no body may have';

/** The place of a character as line and column, counted from 1 as in editors. */
function placeOf(text: string, position: number): string {
  const before = text.slice(0, position).split('\n');
  return `line ${before.length}, column ${(before.at(-1) ?? '').length + 1}`;
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
