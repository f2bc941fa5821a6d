/**
 * Routes requests whose body names an upstream model. The hook comes before the validation by the schema of the local
 * model, and behind keys, limits, draining and the access log.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { ClientStream, OpenBody, UpstreamCall } from '../../upstream/call.js';
import type { HttpContext } from '../context.js';
import { apiRequestOf } from '../routes/generation-handler.js';
import { SseStream } from '../sse.js';

const PATHS: Readonly<Record<string, UpstreamCall['path']>> = {
  '/v1/chat/completions': '/chat/completions',
  '/v1/completions': '/completions',
};

export function registerUpstreams(app: FastifyInstance, context: HttpContext): void {
  const { upstreams } = context;
  if (upstreams === undefined) return;
  app.addHook('onClose', () => upstreams.close());
  app.addHook('preValidation', async (request, reply) => {
    const path = PATHS[request.routeOptions.url ?? ''];
    const connection = path === undefined ? undefined : upstreams.connectionFor(request.body);
    if (path === undefined || connection === undefined) return undefined;
    const call = callOf(request, reply, path, context.options.keepAlive * 1000);
    const answer = await upstreams.answer(context.api, connection, call);
    // A reply that is returned ends the request here.
    if (answer === null) return reply;
    return reply.code(answer.status).headers(answer.headers).send(answer.body);
  });
}

function callOf(
  request: FastifyRequest,
  reply: FastifyReply,
  path: UpstreamCall['path'],
  keepAliveMs: number,
): UpstreamCall {
  return {
    path,
    request: apiRequestOf(request, reply, request.body as OpenBody),
    header: (name, value) => void reply.header(name, value),
    open: (headers): ClientStream => new SseStream(reply, keepAliveMs, { headers: () => headers }),
  };
}
