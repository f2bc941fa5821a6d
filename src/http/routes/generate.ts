/** POST /v1/chat/completions, /v1/completions and /v1/responses, in OpenAI's form. */
import type { FastifyInstance } from 'fastify';
import { chat } from '../../api/chat/chat.js';
import { completions } from '../../api/completions/completions.js';
import { ofChunks } from '../../api/generation/chunks.js';
import { responses } from '../../api/responses/responses.js';
import { ChatAnswer, ChatBody } from '../../api/schemas/chat.js';
import { CompletionAnswer, CompletionBody } from '../../api/schemas/completions.js';
import { ResponsesAnswer, ResponsesBody } from '../../api/schemas/responses.js';
import type { HttpContext } from '../context.js';
import { answers, budgetHeaders } from './describe.js';
import { generationHandler } from './generation-handler.js';

const userOf = ({ user }: { readonly user?: string }): string | undefined => user;

export function registerGeneration(app: FastifyInstance, context: HttpContext): void {
  const config = { protected: true, inference: true } as const;
  const generates = { generates: true };
  app.post(
    '/v1/chat/completions',
    {
      config: { ...config, operation: 'chat' },
      schema: {
        operationId: 'createChatCompletion',
        summary: 'Answer a chat at the depth that the budget allows',
        tags: ['OpenAI'],
        headers: budgetHeaders,
        body: ChatBody,
        response: answers(
          ChatAnswer,
          'With stream: true, server-sent events (chat.completion.chunk).',
          undefined,
          generates,
        ),
      },
    },
    generationHandler(context, ofChunks(chat), userOf),
  );
  app.post(
    '/v1/completions',
    {
      config: { ...config, operation: 'text_completion' },
      schema: {
        operationId: 'createCompletion',
        summary: 'Complete a prompt at the depth that the budget allows',
        tags: ['OpenAI'],
        headers: budgetHeaders,
        body: CompletionBody,
        response: answers(
          CompletionAnswer,
          'With stream: true, server-sent events of the same form.',
          undefined,
          generates,
        ),
      },
    },
    generationHandler(context, ofChunks(completions), userOf),
  );
  app.post(
    '/v1/responses',
    {
      config: { ...config, operation: 'chat' },
      schema: {
        operationId: 'createResponse',
        summary: 'Answer a conversation of items at the depth that the budget allows; no response is stored',
        tags: ['OpenAI'],
        headers: budgetHeaders,
        body: ResponsesBody,
        response: answers(
          ResponsesAnswer,
          'With stream: true, server-sent events from response.created to response.completed.',
          undefined,
          generates,
        ),
      },
    },
    generationHandler(context, responses, userOf),
  );
}
