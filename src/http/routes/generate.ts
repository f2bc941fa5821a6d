/** The routes that generate, and their counts of tokens: completions, chats, responses, and Anthropic's messages. */
import type { FastifyInstance } from 'fastify';
import { chat } from '../../api/chat/chat.js';
import { completions } from '../../api/completions/completions.js';
import { messages } from '../../api/messages/messages.js';
import { countTokens } from '../../api/messages/plan.js';
import { inputTokens } from '../../api/responses/plan.js';
import { responses } from '../../api/responses/responses.js';
import { ChatAnswer, ChatBody } from '../../api/schemas/chat.js';
import { CompletionAnswer, CompletionBody } from '../../api/schemas/completions.js';
import { messageIdHeader } from '../../api/schemas/headers.js';
import { CountTokensAnswer, CountTokensBody, MessagesAnswer, MessagesBody } from '../../api/schemas/messages.js';
import { InputTokensAnswer, InputTokensBody, ResponsesAnswer, ResponsesBody } from '../../api/schemas/responses.js';
import type { HttpContext } from '../context.js';
import { anthropic } from '../protocol.js';
import { clientAbortSignal } from '../response-lifecycle.js';
import { answers, MESSAGES_ERROR_ID, withKey } from './describe.js';
import { registerEndpoint } from './generation-handler.js';

export function registerGeneration(app: FastifyInstance, context: HttpContext): void {
  const tags = ['OpenAI'];
  registerEndpoint(app, context, '/v1/completions', {
    operation: 'text_completion',
    operationId: 'createCompletion',
    summary: 'Complete a prompt at the depth that the budget allows',
    tags,
    body: CompletionBody,
    answer: CompletionAnswer,
    events: 'of the same form.',
    endpoint: completions,
  });
  registerEndpoint(app, context, '/v1/chat/completions', {
    operation: 'chat',
    operationId: 'createChatCompletion',
    summary: 'Answer a chat at the depth that the budget allows',
    tags,
    body: ChatBody,
    answer: ChatAnswer,
    events: '(chat.completion.chunk).',
    endpoint: chat,
  });
  registerEndpoint(app, context, '/v1/responses', {
    operation: 'chat',
    operationId: 'createResponse',
    summary: 'Answer a conversation of items at the depth that the budget allows; no response is stored',
    tags,
    body: ResponsesBody,
    answer: ResponsesAnswer,
    events: 'from response.created to response.completed.',
    endpoint: responses,
  });
  app.post<{ Body: InputTokensBody }>(
    '/v1/responses/input_tokens',
    withKey({
      operationId: 'countInputTokens',
      summary: 'Count the tokens of the prompt of a response',
      tags,
      body: InputTokensBody,
      response: answers(InputTokensAnswer, 'The tokens of the prompt.'),
    }),
    (request, reply) => inputTokens(context.api, { body: request.body, signal: clientAbortSignal(reply) }),
  );
}

export function registerMessages(app: FastifyInstance, context: HttpContext): void {
  const tags = ['Anthropic'];
  const describes = { errorSchema: MESSAGES_ERROR_ID, more: messageIdHeader };
  registerEndpoint(app, context, '/v1/messages', {
    protocol: anthropic,
    operation: 'chat',
    operationId: 'createMessage',
    summary: 'Answer a chat at the depth that the budget allows',
    tags,
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
