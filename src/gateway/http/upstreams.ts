/**
 * Requests whose body names an upstream model, and the endpoints of a server without a local one. A chat or a
 * completion passes before the validation by the schema of the local model, another body behind it.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { Elsewhere } from '../api/endpoints/endpoint.js';
import { endpoints } from '../api/endpoints/index.js';
import { withNames } from '../api/endpoints/chat-completions/translated-chat.js';
import { upstreamCard } from '../api/endpoints/models.js';
import { ApiError } from '../api/errors.js';
import type { OpenBody, UpstreamCall } from '../upstream/call.js';
import { quoted } from '../../util/quoted.js';
import type { GatewayContext } from './context.js';
import { apiRequestOf } from './endpoints.js';
import { SseStream } from './sse.js';

/** The paths of upstreams. */
const PATHS: Readonly<Record<string, UpstreamCall['path']>> = {
  '/v1/chat/completions': '/chat/completions',
  '/v1/completions': '/completions',
};

/** The hooks come behind keys, limits, draining and the access log. */
export function registerUpstreams(app: FastifyInstance, context: GatewayContext): void {
  const { upstreams } = context;
  if (upstreams === undefined) return;
  const local = context.api ?? null;
  /** Answers a request that names a model of upstreams, at an endpoint that the hook serves. */
  const served = async (request: FastifyRequest, reply: FastifyReply, isTranslated: boolean) => {
    const { endpoint } = request.routeOptions.config;
    if (endpoint === undefined || !('operation' in endpoint)) return undefined;
    const elsewhere = isTranslated ? endpoint.elsewhere : undefined;
    const path = isTranslated ? elsewhere && '/chat/completions' : PATHS[endpoint.path];
    const model = upstreams.modelOf(request.body);
    if (path === undefined || model === null) return undefined;
    const { id, response } = request;
    const own = request.body as OpenBody;
    const { body, names } = elsewhere === undefined ? { body: own, names: [] } : translationOf(elsewhere, request);
    const errorBody = elsewhere ? (status: number, text: string) => elsewhere.errorBody(status, text, id) : null;
    const call: UpstreamCall = {
      path,
      model,
      writing: { ...endpoint, request: { id, body: own }, errorBody },
      header: (name, value) => void reply.header(name, value),
      request: apiRequestOf(request, reply, body),
      onSent: (listener) => {
        response.onClosed(() => {
          if (response.isSent) listener();
        });
      },
      open: () => new SseStream(reply, context.options.keepAlive * 1000, { headers: () => ({}) }),
    };
    const answer = await withNames(names, () => upstreams.answer(context, call, local));
    // A reply that is returned ends the request.
    return answer === null ? reply : reply.code(answer.status).headers(answer.headers).send(answer.body);
  };
  app.addHook('onClose', () => upstreams.close());
  app.addHook('preValidation', (request, reply) => served(request, reply, false));
  app.addHook('preHandler', (request, reply) => served(request, reply, true));
}

/** The body as a chat. Its stream passes the counts of tokens, which the other APIs state always. */
function translationOf(endpoint: Elsewhere, { body, caller }: FastifyRequest) {
  const { body: chat, names } = endpoint.translate(body as object, caller.policy.maxTokens ?? null);
  const options = chat.stream === true ? { stream_options: { include_usage: true } } : {};
  return { body: { ...chat, ...options }, names };
}

/** The playground compares depths of a local model. */
const HOME = `Sortie in front of upstream models.

GET  /v1/models            lists them
POST /v1/chat/completions  asks one; X-Latency-Budget-Ms is its deadline
GET  /metrics              series for Prometheus
`;

/** Serves without a local model: the hooks have answered requests that name a model of upstreams. */
export function registerWithoutLocal(app: FastifyInstance, { upstreams }: GatewayContext): void {
  const names = upstreams?.names ?? [];
  const created = Math.floor(Date.now() / 1000);
  const cards = names.map((name) => upstreamCard(name, created));
  const unknown = (model: unknown): ApiError => {
    const known = names.join(', ');
    if (typeof model !== 'string') return new ApiError('invalid_value', `model must be one of ${known}.`, 'model');
    return new ApiError('model_not_found', `This server has no model ${quoted(model)}; it has ${known}.`, 'model');
  };
  const cardOf = (name: unknown): object => {
    const card = cards.find(({ id }) => id === name);
    if (card === undefined) throw unknown(name);
    return card;
  };
  for (const endpoint of endpoints) {
    const { path } = endpoint;
    const config = { endpoint };
    if ('operation' in endpoint) {
      // A body that is not translated passes as it is.
      const schema = endpoint.elsewhere === undefined ? {} : { body: endpoint.body };
      app.post(path, { config, schema }, ({ body }) => {
        throw unknown((body as { model?: unknown } | null)?.model);
      });
    } else if (path.startsWith('/v1/models')) {
      const list = { object: 'list', data: cards };
      const { hiddenPath: each } = endpoint;
      app.get(each ?? path, { config }, ({ params }) =>
        each ? cardOf((params as Record<string, string>)['*']) : list,
      );
    } else {
      app.all(path, { config }, () => {
        throw new ApiError('route_not_found', `${path} needs a local model, and this server runs with --no-local.`);
      });
    }
  }
  app.get('/', { schema: { hide: true } }, () => HOME);
}
