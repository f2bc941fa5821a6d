/** Headers of every response: the request id, protections for browsers; and warnings. */
import { randomUUID } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { HeadersOf, requestIdHeader, warningHeader } from '../../api/schemas/headers.js';
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

const WARNING: keyof HeadersOf<typeof warningHeader> = 'x-sortie-warning';

/**
 * Adds a sentence to the header that tells a client which of its fields have no effect. The status line must not be
 * sent.
 */
export function warn(reply: FastifyReply, text: string): void {
  const said = reply.getHeader(WARNING);
  void reply.header(WARNING, said === undefined ? text : `${String(said)} ${text}`);
}
