/** Serves an endpoint that generates, whole or as a stream. */
import { Readable } from 'node:stream';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { ApiContext, ApiRequest, Caller } from '../../api/context.js';
import { invalid } from '../../api/errors.js';
import type { GeneratingEndpoint } from '../../api/endpoints/endpoint.js';
import { serveStream, serveWhole, type WholeBody } from '../../api/generation/serve.js';
import { answerAttributes, answerHeaders } from '../../telemetry/answer-record.js';
import { clientAbortSignal } from '../response-lifecycle.js';
import { SseStream } from '../sse.js';

/** The field of all bodies that this file reads. */
interface Streamable {
  readonly stream?: boolean;
}

export function generationHandler(context: ApiContext, endpoint: GeneratingEndpoint<Streamable>, keepAliveMs: number) {
  return async (request: FastifyRequest, reply: FastifyReply): Promise<object> => {
    const mustState = endpoint.dialect === 'anthropic';
    const { api: limited, body } = underCap(context, request.caller, request.body as Streamable, mustState);
    const user = endpoint.userOf(body);
    if (user !== undefined) request.logFields.user = user;
    const api = apiRequestOf(request, reply, body);
    if (body.stream === true) {
      await serveStream(limited, api, endpoint, (answer) => new SseStream(reply, keepAliveMs, answer));
      return reply;
    }
    const answer = await serveWhole(limited, api, endpoint);
    return reply.headers(answer.headers).type('application/json; charset=utf-8').send(sent(answer.body));
  };
}

/** The request as the API sees it. */
export function apiRequestOf<Body>(request: FastifyRequest, reply: FastifyReply, body: Body): ApiRequest<Body> {
  return {
    id: request.id,
    arrivedAt: request.forwarded.arrivedAt,
    waitedMs: request.forwarded.waitedMs,
    headers: request.headers,
    body,
    caller: request.caller,
    signal: clientAbortSignal(reply),
    trace: request.trace,
    addLogFields: (fields) => Object.assign(request.logFields, fields),
    answered: (record) => {
      request.answer = record;
      request.trace?.describe(answerAttributes(record));
      reply.headers(answerHeaders(record));
    },
    addCancelFields: (fields) => (request.cancelFields = fields),
  };
}

/** A body, or a stream of it that lets other requests run between two pieces. */
function sent({ first, rest }: WholeBody): string | Readable {
  return rest === null ? first : Readable.from(paced(first, rest), { objectMode: false });
}

async function* paced(first: string, rest: Iterable<string>): AsyncGenerator<string, void, undefined> {
  yield first;
  for (const piece of rest) {
    await nextTurn();
    yield piece;
  }
}

/** Fields that state a length. */
const FIELDS = ['max_tokens', 'max_completion_tokens', 'max_output_tokens'] as const;

type Lengths = Readonly<Partial<Record<(typeof FIELDS)[number], number>>>;

/**
 * Applies the longest answer of an API key (`max_tokens` of the key file): the default of requests that state no
 * length, and the bound of the others.
 * @param mustState whether clients of the endpoint must state a length, and so can't know the bound: a longer answer
 * ends there
 * @throws ApiError invalid_value for a longer answer of another endpoint
 */
function underCap<Body>(api: ApiContext, caller: Caller, body: Body, mustState: boolean) {
  const cap = caller.policy.maxTokens ?? null;
  if (cap === null) return { api, body };
  const lengths: Lengths = body as Lengths;
  const longer = FIELDS.find((field) => (lengths[field] ?? 0) > cap);
  if (longer !== undefined && !mustState) {
    throw invalid(longer, `must be at most ${cap} with this API key, got ${lengths[longer]}`);
  }
  const { limits, model } = api;
  const usual = limits.maxTokensDefault ?? model.generation.maxTokens ?? Infinity;
  return {
    api: { ...api, limits: { ...limits, maxTokensDefault: Math.min(usual, cap) } },
    body: longer === undefined ? body : { ...body, [longer]: cap },
  };
}
