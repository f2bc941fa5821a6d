/** The handler of the routes that generate, whole or streamed. */
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { ApiRequest } from '../../api/context.js';
import type { Endpoint } from '../../api/generation/endpoint.js';
import { serveStream, serveWhole } from '../../api/generation/serve.js';
import { clientAbortSignal } from '../response-lifecycle.js';
import { eventStream } from '../sse.js';
import type { HttpContext } from '../context.js';

/** @param userOf the client's name of its user, for the log */
export function generationHandler<Body extends { readonly stream?: boolean }>(
  context: HttpContext,
  endpoint: Endpoint<Body>,
  userOf: (body: Body) => string | undefined,
) {
  const keepAliveMs = context.options.keepAlive * 1000;
  return async (request: FastifyRequest, reply: FastifyReply): Promise<object> => {
    const body = request.body as Body;
    const user = userOf(body);
    if (user !== undefined) request.notes.user = user;
    const api: ApiRequest<Body> = {
      id: request.id,
      arrivedAt: request.forwarded.arrivedAt,
      waitedMs: request.forwarded.waitedMs,
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
