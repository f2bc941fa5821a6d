/** The endpoints of clients that the local model serves: path, schemas, handler. */
import { Readable } from 'node:stream';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { ApiContext, ApiRequest, Caller } from '../api/context.js';
import type { GeneratingEndpoint, PlainEndpoint } from '../api/endpoints/endpoint.js';
import { endpoints } from '../api/endpoints/index.js';
import { ApiError, invalid } from '../api/errors.js';
import { serveStream, serveWhole, type WholeBody } from '../api/generation/serve.js';
import { answerAttributes, answerHeaders } from '../telemetry/answer-record.js';
import { FairQuota } from '../../util/fair-quota.js';
import type { HttpContext } from './context.js';
import { schemaOf } from './docs.js';
import { SseStream } from './sse.js';

/** Most texts of a tenant alone that are counted at a time: each turn of the event loop encodes a part of all. */
const MOST_COUNTED = 4;

export function registerEndpoints(app: FastifyInstance, context: HttpContext): void {
  const places = new FairQuota(MOST_COUNTED);
  for (const endpoint of endpoints) {
    if ('operation' in endpoint) registerGenerating(app, context, endpoint);
    else registerPlain(app, context, endpoint, places);
  }
}

function registerPlain(app: FastifyInstance, context: HttpContext, endpoint: PlainEndpoint, places: FairQuota): void {
  const method = endpoint.body === undefined ? 'GET' : 'POST';
  const handler = ({ body, params, caller, response }: FastifyRequest): object => {
    const asked = { body, params: params as Record<string, string>, caller, signal: response.abortSignal() };
    const serve = () => endpoint.serve(context.api, { ...asked, isDraining: context.draining });
    return endpoint.isShared === true ? inPlace(places, caller.tenant, serve) : serve();
  };
  const { path, hiddenPath } = endpoint;
  app.route({ method, url: path, config: { endpoint }, schema: schemaOf(endpoint), handler });
  if (hiddenPath !== undefined)
    app.route({ method, url: hiddenPath, config: { endpoint }, schema: { hide: true }, handler });
}

/** Runs work in a place of its tenant. @throws ApiError queue_full */
async function inPlace<T>(places: FairQuota, tenant: string, work: () => T | Promise<T>): Promise<T> {
  if (places.available(tenant) < 1)
    throw new ApiError('queue_full', 'Too many texts of this client are being tokenized; try again shortly.');
  places.acquire(tenant, 1);
  try {
    return await work();
  } finally {
    places.release(tenant, 1);
  }
}

/** The field of all bodies that this file reads. */
interface Streamable {
  readonly stream?: boolean;
}

function registerGenerating(
  app: FastifyInstance,
  context: HttpContext,
  endpoint: GeneratingEndpoint<Streamable>,
): void {
  const keepAliveMs = context.options.keepAlive * 1000;
  const mustState = endpoint.dialect === 'anthropic';
  app.post(endpoint.path, { config: { endpoint }, schema: schemaOf(endpoint) }, async (request, reply) => {
    const { api: limited, body } = underCap(context.api, request.caller, request.body as Streamable, mustState);
    const user = endpoint.userOf(body);
    if (user !== undefined) request.logFields.user = user;
    const api = apiRequestOf(request, reply, body);
    if (body.stream === true) {
      await serveStream(limited, api, endpoint, (answer) => new SseStream(reply, keepAliveMs, answer));
      return reply;
    }
    const answer = await serveWhole(limited, api, endpoint);
    return reply.headers(answer.headers).type('application/json; charset=utf-8').send(sent(answer.body));
  });
}

/** The request as the API sees it. */
export function apiRequestOf<Body>(request: FastifyRequest, reply: FastifyReply, body: Body): ApiRequest<Body> {
  const { id, headers, caller, trace, forwarded, response } = request;
  return {
    id,
    arrivedAt: forwarded.arrivedAt,
    waitedMs: forwarded.waitedMs,
    headers,
    body,
    caller,
    trace,
    signal: response.abortSignal(),
    addLogFields: (fields) => Object.assign(request.logFields, fields),
    answered: (record) => {
      request.answer = record;
      trace?.describe(answerAttributes(record));
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
