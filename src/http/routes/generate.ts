/** POST /v1/completions and /v1/chat/completions. */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { chat } from '../../api/chat/chat.js';
import { completions } from '../../api/completions/completions.js';
import type { ApiRequest } from '../../api/context.js';
import { ChatAnswer, ChatBody } from '../../api/schemas/chat.js';
import { CompletionAnswer, CompletionBody } from '../../api/schemas/completions.js';
import { type Endpoint, serveStream, serveWhole } from '../../api/generation/serve.js';
import { clientAbortSignal } from '../response-lifecycle.js';
import { eventStream } from '../sse.js';
import type { HttpContext } from '../context.js';
import { answers, budgetHeaders } from './describe.js';

function handler<Body extends { readonly stream?: boolean; readonly user?: string }>(
  context: HttpContext,
  endpoint: Endpoint<Body>,
) {
  const keepAliveMs = context.options.keepAlive * 1000;
  return async (request: FastifyRequest, reply: FastifyReply): Promise<object> => {
    const body = request.body as Body;
    if (body.user !== undefined) request.notes.user = body.user;
    const api: ApiRequest<Body> = {
      arrivedAt: request.forwarded.arrivedAt,
      headers: request.headers,
      body,
      caller: request.caller,
      signal: clientAbortSignal(reply),
      trace: request.trace,
      addLogFields: (fields) => Object.assign(request.notes, fields),
    };
    if (body.stream === true) {
      await serveStream(context.api, api, endpoint, (headers) => eventStream(reply, keepAliveMs, headers));
      return reply;
    }
    const answer = await serveWhole(context.api, api, endpoint);
    void reply.headers(answer.headers);
    return answer.body;
  };
}

export function registerGeneration(app: FastifyInstance, context: HttpContext): void {
  const config = { protected: true, inference: true } as const;
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
        response: answers(CompletionAnswer, 'With stream: true, server-sent events of the same form.', undefined, {
          generates: true,
        }),
      },
    },
    handler(context, completions),
  );
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
        response: answers(ChatAnswer, 'With stream: true, server-sent events (chat.completion.chunk).', undefined, {
          generates: true,
        }),
      },
    },
    handler(context, chat),
  );
}
