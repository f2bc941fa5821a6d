/** The responses that have begun and not ended, for the drain. */
import type { ServerResponse } from 'node:http';
import type { FastifyInstance } from 'fastify';

declare module 'fastify' {
  interface FastifyInstance {
    readonly openResponses: ReadonlySet<ServerResponse>;
  }
}

export function registerOpenResponses(app: FastifyInstance): void {
  const open = new Set<ServerResponse>();
  app.decorate('openResponses', open);
  app.addHook('onRequest', async (_request, reply) => {
    open.add(reply.raw);
    reply.raw.once('close', () => open.delete(reply.raw));
  });
}
