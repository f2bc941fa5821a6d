/**
 * Routes requests whose body names an upstream model. The hook comes before the validation by the schema of the local
 * model, and behind keys, limits, draining and the access log.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { Limits } from '../../api/context.js';
import type { ClientStream, OpenBody, UpstreamCall } from '../../upstream/call.js';
import type { GatewayContext } from '../context.js';
import { apiRequestOf } from '../routes/generation-handler.js';
import { isSent, onClosed } from '../response-lifecycle.js';
import { SseStream } from '../sse.js';

/** The paths that serve upstream models, and those of upstreams. */
export const PATHS: Readonly<Record<string, UpstreamCall['path']>> = {
  '/v1/chat/completions': '/chat/completions',
  '/v1/completions': '/completions',
};

/** @param limits of all clients */
export function registerUpstreams(app: FastifyInstance, context: GatewayContext, limits: Pick<Limits, 'policy'>): void {
  const { upstreams } = context;
  if (upstreams === undefined) return;
  app.addHook('onClose', () => upstreams.close());
  app.addHook('preValidation', async (request, reply) => {
    const path = PATHS[request.routeOptions.url ?? ''];
    const model = upstreams.modelOf(request.body);
    if (path === undefined || model === null) return undefined;
    const call = callOf(request, reply, { path, model }, context.options.keepAlive * 1000);
    const answer = await upstreams.answer(limits, call);
    // A reply that is returned ends the request here.
    if (answer === null) return reply;
    return reply.code(answer.status).headers(answer.headers).send(answer.body);
  });
}

function callOf(
  request: FastifyRequest,
  reply: FastifyReply,
  target: Pick<UpstreamCall, 'path' | 'model'>,
  keepAliveMs: number,
): UpstreamCall {
  return {
    ...target,
    request: apiRequestOf(request, reply, request.body as OpenBody),
    onSent: (listener) => {
      onClosed(reply, () => {
        if (isSent(reply)) listener();
      });
    },
    open: (headers): ClientStream => new SseStream(reply, keepAliveMs, { headers: () => headers }),
  };
}
