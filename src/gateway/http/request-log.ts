/**
 * One log line, one count and one span for each request, when its last byte went out or its client disconnected. A span
 * continues a trusted trace.
 */
import { countAnswer, loggedAnswer } from '../telemetry/answer-record.js';
import { traceIdOf } from './forwarded.js';
import type { GatewayContext, Step } from './context.js';

/** Probes and scrapes come every few seconds, so their lines have level debug. */
const QUIET = /^\/(health|load|metrics|v2\/health)/;

const hundredths = (ms: number): number => Math.round(ms * 100) / 100;

/** Logs and counts a request at its end. Fastify calls onResponse for no client that disconnected. */
export function logged({ series, options }: GatewayContext): Step {
  return (request, reply) => {
    Object.assign(request, { logFields: {}, answer: null, cancelFields: null, trace: null, bodyArrived: null });
    request.response.onClosed(() => {
      const { method, response, logFields, cancelFields, answer, forwarded } = request;
      if (!response.isSent) Object.assign(logFields, { cancelled: true }, cancelFields?.());
      else if (answer !== null) {
        countAnswer(series, answer);
        Object.assign(logFields, loggedAnswer(answer));
      }
      const { status } = response;
      const route = request.routeOptions.url ?? 'unknown';
      series.httpRequests.inc({ method, route, status: String(status) });
      const { isTrusted, client, scheme, waitedMs } = forwarded;
      const line = {
        method,
        route,
        status,
        ms: hundredths(reply.elapsedTime),
        client,
        ...(isTrusted && { scheme, ...(waitedMs > 0 && { proxy_ms: hundredths(waitedMs) }) }),
        ...logFields,
        ...(options.logPrompts && request.body !== undefined && { body: request.body }),
      };
      request.log[QUIET.test(route) ? 'debug' : 'info'](line, 'request');
    });
  };
}

/** Traces the requests that generate. */
export function traced({ tracing, api }: GatewayContext): Step {
  return (request) => {
    const { forwarded, logFields } = request;
    if (tracing === null) {
      const id = forwarded.isTrusted ? traceIdOf(request.headers.traceparent) : null;
      if (id !== null) logFields.trace_id = id;
      return;
    }
    const { url, config } = request.routeOptions;
    if (url === undefined || config.endpoint === undefined || !('operation' in config.endpoint)) return;
    const parent = forwarded.isTrusted ? request.headers : {};
    const trace = tracing.request(`${request.method} ${url}`, parent, forwarded.arrivedAt, {
      'http.request.method': request.method,
      'http.route': url,
      'url.path': url,
      'url.scheme': forwarded.scheme,
      'server.address': request.hostname,
      'server.port': request.socket.localPort,
      'client.address': forwarded.client,
      'gen_ai.operation.name': config.endpoint.operation,
      'gen_ai.provider.name': 'sortie',
      'gen_ai.response.model': api?.model.name,
      'sortie.request_id': request.id,
    });
    request.trace = trace;
    logFields.trace_id = trace.traceId;
    request.response.onClosed(() => {
      if (!request.response.isSent) trace.describe({ 'error.type': 'client_disconnected' });
      trace.end(request.response.status);
    });
  };
}
