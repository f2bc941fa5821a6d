/** X-Sortie-Load on every response, for proxies that choose among servers. Absent while no wait is predicted. */
import type { FastifyInstance } from 'fastify';
import type { HeadersOf, loadHeader } from '../../api/schemas/headers.js';
import type { HttpContext } from '../context.js';

declare module 'fastify' {
  interface FastifyInstance {
    /** For responses that bypass Fastify's hooks. */
    readonly loadHeaders: () => Partial<HeadersOf<typeof loadHeader>>;
  }
}

export function registerLoadHeader(app: FastifyInstance, { predictedWaitMs }: HttpContext): void {
  const loadHeaders = () => {
    const waitMs = predictedWaitMs();
    return waitMs === null ? {} : { 'x-sortie-load': String(Math.round(waitMs)) };
  };
  app.decorate('loadHeaders', loadHeaders);
  app.addHook('onSend', async (_request, reply) => {
    void reply.headers(loadHeaders());
  });
}
