/** POST /tokenize and /detokenize. */
import type { FastifyInstance } from 'fastify';
import { DetokenizeAnswer, DetokenizeBody, TokenizeAnswer, TokenizeBody } from '../../api/schemas/tokenize.js';
import { detokenize, tokenize } from '../../api/tokenize.js';
import type { HttpContext } from '../state.js';
import { answers } from './describe.js';

export function registerTokenize(app: FastifyInstance, context: HttpContext): void {
  const config = { protected: true };
  const tags = ['Tokens'];
  app.post<{ Body: TokenizeBody }>(
    '/tokenize',
    {
      config,
      schema: { operationId: 'tokenize', tags, body: TokenizeBody, response: answers(TokenizeAnswer, 'Token ids.') },
    },
    (request) => tokenize(context.api, request.body),
  );
  app.post<{ Body: DetokenizeBody }>(
    '/detokenize',
    {
      config,
      schema: { operationId: 'detokenize', tags, body: DetokenizeBody, response: answers(DetokenizeAnswer, 'Text.') },
    },
    (request) => detokenize(context.api, request.body),
  );
}
