/** POST /v1/chat/completions, /v1/completions, /v1/responses and its count of tokens, in OpenAI's form. */
import type { FastifyInstance } from 'fastify';
import { chat } from '../../api/chat/chat.js';
import { completions } from '../../api/completions/completions.js';
import { inputTokens } from '../../api/responses/plan.js';
import { responses } from '../../api/responses/responses.js';
import { ChatAnswer, ChatBody } from '../../api/schemas/chat.js';
import { CompletionAnswer, CompletionBody } from '../../api/schemas/completions.js';
import { InputTokensAnswer, InputTokensBody, ResponsesAnswer, ResponsesBody } from '../../api/schemas/responses.js';
import type { HttpContext } from '../context.js';
import { clientAbortSignal } from '../response-lifecycle.js';
import { answers } from './describe.js';
import { registerEndpoint } from './generation-handler.js';

export function registerGeneration(app: FastifyInstance, context: HttpContext): void {
  const tags = ['OpenAI'];
  registerEndpoint(app, context, '/v1/completions', {
    operation: 'text_completion',
    schema: {
      operationId: 'createCompletion',
      summary: 'Complete a prompt at the depth that the budget allows',
      tags,
    },
    body: CompletionBody,
    answer: CompletionAnswer,
    events: 'of the same form.',
    endpoint: completions,
  });
  registerEndpoint(app, context, '/v1/chat/completions', {
    operation: 'chat',
    schema: {
      operationId: 'createChatCompletion',
      summary: 'Answer a chat at the depth that the budget allows',
      tags,
    },
    body: ChatBody,
    answer: ChatAnswer,
    events: '(chat.completion.chunk).',
    endpoint: chat,
  });
  registerEndpoint(app, context, '/v1/responses', {
    operation: 'chat',
    schema: {
      operationId: 'createResponse',
      summary: 'Answer a conversation of items at the depth that the budget allows; no response is stored',
      tags,
    },
    body: ResponsesBody,
    answer: ResponsesAnswer,
    events: 'from response.created to response.completed.',
    endpoint: responses,
  });
  app.post<{ Body: InputTokensBody }>(
    '/v1/responses/input_tokens',
    {
      config: { protected: true },
      schema: {
        operationId: 'countInputTokens',
        summary: 'Count the tokens of the prompt of a response',
        tags,
        body: InputTokensBody,
        response: answers(InputTokensAnswer, 'The tokens of the prompt.'),
      },
    },
    (request, reply) => inputTokens(context.api, { body: request.body, signal: clientAbortSignal(reply) }),
  );
}
