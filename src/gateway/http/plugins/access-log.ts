/** One log line and one count per request, when its last byte went out or its client disconnected. */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { type AnswerRecord, countAnswer, loggedAnswer } from '../../telemetry/answer-record.js';
import { isSent, onClosed, statusOf } from '../response-lifecycle.js';
import type { GatewayContext } from '../context.js';

declare module 'fastify' {
  interface FastifyRequest {
    /** Fields that request handling adds to the log line. */
    logFields: Record<string, unknown>;
    /** The record of its answer; null: it has none so far. */
    answer: AnswerRecord | null;
    /** Gives further fields for the line of a client that disconnected; null for none. */
    cancelFields: (() => Readonly<Record<string, unknown>>) | null;
  }
}

/** Probes and scrapes come every few seconds, so their lines have level debug. */
const QUIET = /^\/(health|load|metrics|v2\/health)/;

/** @returns a function that logs and counts one request at its end, whether served or rejected */
export function accessLog(context: GatewayContext): (request: FastifyRequest, reply: FastifyReply) => void {
  // Fastify calls onResponse only for responses sent in full, never for a client that disconnected.
  return (request, reply) => {
    request.logFields = {};
    request.answer = null;
    request.cancelFields = null;
    onClosed(reply, () => {
      const { logFields, cancelFields, answer } = request;
      if (!isSent(reply)) Object.assign(logFields, { cancelled: true }, cancelFields?.());
      else if (answer !== null) {
        countAnswer(context.series, answer);
        Object.assign(logFields, loggedAnswer(answer));
      }
      log(request, reply);
    });
  };

  function log(request: FastifyRequest, reply: FastifyReply): void {
    const { method } = request;
    const route = request.routeOptions.url ?? 'unknown';
    const status = statusOf(reply);
    context.series.httpRequests.inc({ method, route, status: String(status) });
    const line = {
      method,
      route,
      status,
      ms: Math.round(reply.elapsedTime * 100) / 100,
      ...origin(request),
      ...request.logFields,
      ...(context.options.logPrompts && request.body !== undefined ? { body: request.body } : {}),
    };
    request.log[QUIET.test(route) ? 'debug' : 'info'](line, 'request');
  }
}

/** The client, and what a trusted proxy adds to it. */
function origin({ forwarded: { isTrusted, client, scheme, waitedMs } }: FastifyRequest): Record<string, unknown> {
  const spent = waitedMs === 0 ? {} : { proxy_ms: Math.round(waitedMs * 100) / 100 };
  return { client, ...(isTrusted ? { scheme, ...spent } : {}) };
}

/** @param watch the result of {@link accessLog} */
export function registerAccessLog(
  app: FastifyInstance,
  context: GatewayContext,
  watch: ReturnType<typeof accessLog>,
): void {
  app.decorateRequest('logFields');
  app.decorateRequest('answer', null);
  app.decorateRequest('cancelFields', null);
  // The count of faults starts at 0: an alert asks for an increase, and a new series shows none at its first fault.
  // Only POST routes start, since a GET handler can hardly fail.
  app.addHook('onRoute', ({ method, url }) => {
    if (method === 'POST') context.series.httpRequests.inc({ method, route: url, status: '500' }, 0);
  });
  app.addHook('onRequest', (request, reply, done) => {
    watch(request, reply);
    done();
  });
}
