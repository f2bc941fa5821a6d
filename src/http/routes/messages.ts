/** POST /v1/messages and /v1/messages/count_tokens, in Anthropic's form. */
import type { FastifyInstance } from 'fastify';
import { countTokens } from '../../api/messages/plan.js';
import { messages } from '../../api/messages/messages.js';
import { messageIdHeader } from '../../api/schemas/headers.js';
import { CountTokensAnswer, CountTokensBody, MessagesAnswer, MessagesBody } from '../../api/schemas/messages.js';
import { clientAbortSignal } from '../response-lifecycle.js';
import type { HttpContext } from '../context.js';
import { anthropic } from '../protocol.js';
import { answers, MESSAGES_ERROR_ID } from './describe.js';
import { registerEndpoint } from './generation-handler.js';

export function registerMessages(app: FastifyInstance, context: HttpContext): void {
  const tags = ['Anthropic'];
  const describes = { errorSchema: MESSAGES_ERROR_ID, more: messageIdHeader };
  registerEndpoint(app, context, '/v1/messages', {
    protocol: anthropic,
    operation: 'chat',
    schema: {
      operationId: 'createMessage',
      summary: 'Answer a chat at the depth that the budget allows',
      tags,
    },
    body: MessagesBody,
    answer: MessagesAnswer,
    events: 'from message_start to message_stop.',
    describes,
    endpoint: messages,
  });
  app.post<{ Body: CountTokensBody }>(
    '/v1/messages/count_tokens',
    {
      config: { protected: true, protocol: anthropic },
      schema: {
        operationId: 'countTokens',
        summary: 'Count the tokens of a prompt',
        tags,
        body: CountTokensBody,
        response: answers(CountTokensAnswer, 'The tokens of the prompt.', undefined, describes),
      },
    },
    (request, reply) => countTokens(context.api, { body: request.body, signal: clientAbortSignal(reply) }),
  );
}
