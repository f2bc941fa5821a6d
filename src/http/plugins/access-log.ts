/** One log line and one count per request, when its last byte went out or its client left. */
import type { FastifyInstance } from 'fastify';
import type { HttpContext } from '../state.js';

declare module 'fastify' {
  interface FastifyRequest {
    /** Fields that serving adds to the log line. */
    notes: Record<string, unknown>;
  }
}

/** Probes and scrapes come every few seconds: not worth a line. */
const QUIET = /^\/(health|metrics|v2\/health)/;

export function registerAccessLog(app: FastifyInstance, context: HttpContext): void {
  app.decorateRequest('notes');
  app.addHook('onRequest', (request, _reply, done) => {
    request.notes = {};
    done();
  });
  app.addHook('onResponse', async (request, reply) => {
    const route = request.routeOptions.url ?? 'unknown';
    const { statusCode } = reply.raw;
    context.series.http.inc({ method: request.method, route, status: String(statusCode) });
    const line = {
      method: request.method,
      route,
      status: statusCode,
      ms: Math.round(reply.elapsedTime * 100) / 100,
      ...request.notes,
      ...(context.options.logPrompts && request.body !== undefined ? { body: request.body } : {}),
    };
    request.log[QUIET.test(route) ? 'debug' : 'info'](line, 'request');
  });
}
