/** A span for each request that generates, from its arrival to its last byte. It continues a trusted trace. */
import type { FastifyInstance } from 'fastify';
import type { RequestTrace } from '../../telemetry/trace.js';
import { traceIdOf } from '../forwarded.js';
import { isSent, onClosed, statusOf } from '../response-lifecycle.js';
import type { GatewayContext } from '../context.js';

declare module 'fastify' {
  interface FastifyContextConfig {
    /** The operation in the words of OpenTelemetry's GenAI conventions. Only routes with one are traced. */
    operation?: 'chat' | 'text_completion';
  }
  interface FastifyRequest {
    /** Null if tracing is off. */
    trace: RequestTrace | null;
  }
}

export function registerTracing(app: FastifyInstance, { tracing, api }: GatewayContext): void {
  app.decorateRequest('trace', null);
  if (tracing === null) {
    app.addHook('onRequest', (request, _reply, done) => {
      const id = request.forwarded.isTrusted ? traceIdOf(request.headers.traceparent) : null;
      if (id !== null) request.logFields.trace_id = id;
      done();
    });
    return;
  }
  app.addHook('onRequest', (request, reply, done) => {
    const { operation } = request.routeOptions.config;
    const route = request.routeOptions.url;
    if (operation !== undefined && route !== undefined) {
      const { isTrusted, client, scheme, arrivedAt } = request.forwarded;
      const trace = tracing.request(`${request.method} ${route}`, isTrusted ? request.headers : {}, arrivedAt, {
        'http.request.method': request.method,
        'http.route': route,
        'url.path': route,
        'url.scheme': scheme,
        'server.address': request.hostname,
        'server.port': request.socket.localPort,
        'client.address': client,
        'gen_ai.operation.name': operation,
        'gen_ai.provider.name': 'sortie',
        'gen_ai.response.model': api?.model.name,
        'sortie.request_id': request.id,
      });
      request.trace = trace;
      request.logFields.trace_id = trace.traceId;
      onClosed(reply, () => {
        if (!isSent(reply)) trace.describe({ 'error.type': 'client_disconnected' });
        trace.end(statusOf(reply));
      });
    }
    done();
  });
}
