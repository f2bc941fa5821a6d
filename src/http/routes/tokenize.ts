/** POST /tokenize and /detokenize. */
import type { FastifyInstance } from 'fastify';
import { DetokenizeAnswer, DetokenizeBody, TokenizeAnswer, TokenizeBody } from '../../api/schemas/tokenize.js';
import { detokenize, tokenize } from '../../api/tokenize.js';
import { clientAbortSignal } from '../response-lifecycle.js';
import type { HttpContext } from '../context.js';
import { answers, withKey } from './describe.js';

/** The statuses of /detokenize. Key limits do not apply, and only /tokenize asks the engine for the context length. */
const ERRORS = [400, 401, 404, 405, 413, 415, 500] as const;

export function registerTokenize(app: FastifyInstance, context: HttpContext): void {
  const tags = ['Tokens'];
  app.post<{ Body: TokenizeBody }>(
    '/tokenize',
    withKey({
      operationId: 'tokenize',
      summary: 'Turn a text or a chat into token ids',
      tags,
      body: TokenizeBody,
      response: answers(TokenizeAnswer, 'Token ids.', [...ERRORS, 429, 503]),
    }),
    (request, reply) => tokenize(context.api, { body: request.body, signal: clientAbortSignal(reply) }),
  );
  app.post<{ Body: DetokenizeBody }>(
    '/detokenize',
    withKey({
      operationId: 'detokenize',
      summary: 'Turn token ids into text',
      tags,
      body: DetokenizeBody,
      response: answers(DetokenizeAnswer, 'Text.', ERRORS),
    }),
    (request) => detokenize(context.api, request.body),
  );
}
