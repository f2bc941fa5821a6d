/** Headers of every response: the request id, and protections for browsers. */
import { randomUUID } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import type { HeadersOf, requestIdHeader } from '../../api/schemas/headers.js';
import { dialectOf } from '../api-dialect.js';

/** The client's X-Request-Id if it is one printable word, else a new id. */
export function requestId(request: Pick<IncomingMessage, 'headers'>): string {
  const given = request.headers['x-request-id'];
  return typeof given === 'string' && /^[\x21-\x7e]{1,128}$/.test(given) ? given : randomUUID();
}

/** Headers of every response. */
export function commonHeaders({
  id,
}: Pick<FastifyRequest, 'id'>): HeadersOf<typeof requestIdHeader> & Record<string, string> {
  return {
    'x-request-id': id,
    'x-content-type-options': 'nosniff',
    'x-frame-options': 'DENY',
    'referrer-policy': 'no-referrer',
  };
}

export function registerHeaders(app: FastifyInstance): void {
  app.addHook('onRequest', async (request, reply) => {
    const { idHeader } = dialectOf(request);
    void reply.headers({ ...commonHeaders(request), ...(idHeader !== null && { [idHeader]: request.id }) });
  });
}
