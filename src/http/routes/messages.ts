/** POST /v1/messages and /v1/messages/count_tokens, in Anthropic's form. */
import type { FastifyInstance } from 'fastify';
import { countTokens } from '../../api/messages/count-tokens.js';
import { messages } from '../../api/messages/messages.js';
import { messageIdHeader } from '../../api/schemas/headers.js';
import { CountTokensAnswer, CountTokensBody, MessagesAnswer, MessagesBody } from '../../api/schemas/messages.js';
import { clientAbortSignal } from '../response-lifecycle.js';
import type { HttpContext } from '../context.js';
import { anthropic } from '../protocol.js';
import { answers, budgetHeaders, MESSAGES_ERROR_ID } from './describe.js';
import { generationHandler } from './generation-handler.js';

/** Most characters of a user's name in the log. Claude Code's names are longer than OpenAI's limit. */
const MAX_USER = 256;

export function registerMessages(app: FastifyInstance, context: HttpContext): void {
  const tags = ['Anthropic'];
  const errorSchema = MESSAGES_ERROR_ID;
  app.post(
    '/v1/messages',
    {
      config: { protected: true, inference: true, operation: 'chat', protocol: anthropic },
      schema: {
        operationId: 'createMessage',
        summary: 'Answer a chat at the depth that the budget allows',
        tags,
        headers: budgetHeaders,
        body: MessagesBody,
        response: answers(
          MessagesAnswer,
          'With stream: true, server-sent events from message_start to message_stop.',
          undefined,
          { generates: true, errorSchema, more: messageIdHeader },
        ),
      },
    },
    generationHandler(context, messages, ({ metadata }) => metadata?.user_id?.slice(0, MAX_USER)),
  );
  app.post<{ Body: CountTokensBody }>(
    '/v1/messages/count_tokens',
    {
      config: { protected: true, protocol: anthropic },
      schema: {
        operationId: 'countTokens',
        summary: 'Count the tokens of a prompt',
        tags,
        body: CountTokensBody,
        response: answers(CountTokensAnswer, 'The tokens of the prompt.', undefined, {
          errorSchema,
          more: messageIdHeader,
        }),
      },
    },
    (request, reply) => countTokens(context.api, { body: request.body, signal: clientAbortSignal(reply) }),
  );
}
