/**
 * Routes requests whose body names an upstream model. They come behind keys, limits, draining and the access log. A
 * chat or a completion passes before the validation by the schema of the local model, another body behind it.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { Elsewhere } from '../../api/endpoints/endpoint.js';
import { endpoints } from '../../api/endpoints/index.js';
import { withNames } from '../../api/endpoints/chat-completions/translated-chat.js';
import type { ClientStream, OpenBody, PlainAnswer, UpstreamCall } from '../../upstream/call.js';
import type { GatewayContext } from '../context.js';
import { isSent, onClosed } from '../response-lifecycle.js';
import { apiRequestOf } from '../routes/generation-handler.js';
import { SseStream } from '../sse.js';

/** The paths of upstreams. */
const PATHS: Readonly<Record<string, UpstreamCall['path']>> = {
  '/v1/chat/completions': '/chat/completions',
  '/v1/completions': '/completions',
};

/** The endpoints that generate, by their path. */
const GENERATING = new Map(endpoints.flatMap((each) => ('operation' in each ? [[each.path, each] as const] : [])));

export function registerUpstreams(app: FastifyInstance, context: GatewayContext): void {
  const { upstreams } = context;
  if (upstreams === undefined) return;
  const local = context.api ?? null;
  /** Answers a request that names a model of upstreams, at an endpoint that the hook serves. */
  const served = async (request: FastifyRequest, reply: FastifyReply, isTranslated: boolean) => {
    const endpoint = GENERATING.get(request.routeOptions.url ?? '');
    const elsewhere = isTranslated ? endpoint?.elsewhere : undefined;
    const path = isTranslated ? elsewhere && '/chat/completions' : PATHS[endpoint?.path ?? ''];
    const model = upstreams.modelOf(request.body);
    if (endpoint === undefined || path === undefined || model === null) return undefined;
    const { id } = request;
    const own = request.body as OpenBody;
    const { body, names } = elsewhere === undefined ? { body: own, names: [] } : translationOf(elsewhere, request);
    const errorBody = elsewhere && ((status: number, text: string) => elsewhere.errorBody(status, text, id));
    const writing = { ...endpoint, request: { id, body: own }, errorBody: errorBody ?? null };
    const open = () => new SseStream(reply, context.options.keepAlive * 1000, { headers: () => ({}) });
    const call = callOf(request, reply, { path, model, body, writing }, open);
    return sent(reply, await withNames(names, () => upstreams.answer(context, call, local)));
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

/** A reply that is returned ends the request. */
function sent(reply: FastifyReply, answer: PlainAnswer | null): FastifyReply {
  return answer === null ? reply : reply.code(answer.status).headers(answer.headers).send(answer.body);
}

function callOf(
  request: FastifyRequest,
  reply: FastifyReply,
  { body, ...target }: Pick<UpstreamCall, 'path' | 'model' | 'writing'> & { readonly body: OpenBody },
  open: () => ClientStream,
): UpstreamCall {
  return {
    ...target,
    header: (name, value) => void reply.header(name, value),
    request: apiRequestOf(request, reply, body),
    onSent: (listener) => {
      onClosed(reply, () => {
        if (isSent(reply)) listener();
      });
    },
    open,
  };
}
