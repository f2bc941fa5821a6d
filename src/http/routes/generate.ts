/** POST /v1/completions and /v1/chat/completions. */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { serveChat, streamChat } from '../../api/chat.js';
import { serveCompletion, streamCompletion } from '../../api/completions.js';
import type { ApiContext, ApiRequest, EventStream, JsonAnswer } from '../../api/context.js';
import { ChatAnswer, ChatBody } from '../../api/schemas/chat.js';
import { CompletionAnswer, CompletionBody } from '../../api/schemas/completions.js';
import { monotonicMs } from '../../clock.js';
import { eventStream, onGone } from '../sse.js';
import type { HttpContext } from '../state.js';
import { answers, budgetHeaders } from './describe.js';

interface Serving<Body> {
  readonly whole: (api: ApiContext, request: ApiRequest<Body>, gone: (then: () => void) => void) => Promise<JsonAnswer>;
  readonly stream: (api: ApiContext, request: ApiRequest<Body>, out: () => EventStream) => Promise<void>;
}

function handler<Body extends { readonly stream?: boolean; readonly user?: string }>(
  context: HttpContext,
  serving: Serving<Body>,
) {
  const keepAliveMs = context.options.keepAlive * 1000;
  return async (request: FastifyRequest, reply: FastifyReply): Promise<object> => {
    const body = request.body as Body;
    if (body.user !== undefined) request.notes.user = body.user;
    const api: ApiRequest<Body> = {
      arrivedAt: monotonicMs() - reply.elapsedTime,
      headers: request.headers,
      body,
      caller: request.caller,
      trace: request.trace,
      note: (fields) => Object.assign(request.notes, fields),
    };
    if (body.stream === true) {
      await serving.stream(context.api, api, () => eventStream(reply, keepAliveMs));
      return reply;
    }
    const answer = await serving.whole(context.api, api, (listener) => {
      onGone(reply, () => {
        request.notes.cancelled = true;
        listener();
      });
    });
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
        response: answers(
          CompletionAnswer,
          'With stream: true, server-sent events of the same shape.',
          undefined,
          true,
        ),
      },
    },
    handler<CompletionBody>(context, { whole: serveCompletion, stream: streamCompletion }),
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
        response: answers(
          ChatAnswer,
          'With stream: true, server-sent events (chat.completion.chunk).',
          undefined,
          true,
        ),
      },
    },
    handler<ChatBody>(context, { whole: serveChat, stream: streamChat }),
  );
}
