/** One log line and one count per request, when its last byte went out or its client left. */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { isSent, onClosed, statusOf } from '../response-lifecycle.js';
import type { HttpContext } from '../context.js';

declare module 'fastify' {
  interface FastifyRequest {
    /** Fields that serving adds to the log line. */
    notes: Record<string, unknown>;
  }
}

/** Probes and scrapes come every few seconds: not worth a line. */
const QUIET = /^\/(health|metrics|v2\/health)/;

/** @returns writes and counts one request when it is over, whatever refuses it */
export function accessLog(context: HttpContext): (request: FastifyRequest, reply: FastifyReply) => void {
  // Not onResponse: Fastify calls that for what was sent whole, never for a client that left.
  return (request, reply) => {
    request.notes = {};
    onClosed(reply, () => {
      if (!isSent(reply)) request.notes.cancelled = true;
      log(request, reply);
    });
  };

  function log(request: FastifyRequest, reply: FastifyReply): void {
    const route = request.routeOptions.url ?? 'unknown';
    const status = statusOf(reply);
    context.series.http.inc({ method: request.method, route, status: String(status) });
    const line = {
      method: request.method,
      route,
      status,
      ms: Math.round(reply.elapsedTime * 100) / 100,
      ...request.notes,
      ...(context.options.logPrompts && request.body !== undefined ? { body: request.body } : {}),
    };
    request.log[QUIET.test(route) ? 'debug' : 'info'](line, 'request');
  }
}

/** @param watch of {@link accessLog} */
export function registerAccessLog(
  app: FastifyInstance,
  context: HttpContext,
  watch: ReturnType<typeof accessLog>,
): void {
  app.decorateRequest('notes');
  // From 0: an alert on faults asks for an increase, and the first of a series that was not there shows none. What only
  // reads has next to nothing to break on.
  app.addHook('onRoute', ({ method, url }) => {
    if (method === 'POST') context.series.http.inc({ method, route: url, status: '500' }, 0);
  });
  app.addHook('onRequest', (request, reply, done) => {
    watch(request, reply);
    done();
  });
}
