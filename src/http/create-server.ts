/**
 * A Fastify app with what every port of the server has: limits, errors in OpenAI's shape, headers, access log.
 *
 * Knows: the framework's options. Must not know: routes.
 */
import { fastify, LogController, type FastifyInstance } from 'fastify';
import { accessLog, registerAccessLog } from './plugins/access-log.js';
import { clientError, registerErrors, sendError } from './plugins/errors.js';
import { registerHeaders, requestId } from './plugins/headers.js';
import { registerJson } from './plugins/json.js';
import { registerInFlight } from './plugins/in-flight.js';
import { registerHttpConformance } from './plugins/http-conformance.js';
import type { HttpContext } from './context.js';

export function createServer(context: HttpContext): FastifyInstance {
  const timeoutMs = context.options.requestTimeout * 1000;
  const watch = accessLog(context);
  const app = fastify({
    loggerInstance: context.log,
    // access-log.ts writes one line per request instead of Fastify's two.
    logController: new LogController({ disableRequestLogging: true }),
    requestIdHeader: false,
    genReqId: requestId,
    bodyLimit: context.options.maxBody,
    requestTimeout: timeoutMs,
    // Node looks for late requests only that often (default 30 s).
    http: {
      connectionsCheckingInterval: Math.min(5000, timeoutMs / 2),
      headersTimeout: timeoutMs,
      // plugins/http-conformance.ts asks for it, with a body.
      requireHostHeader: false,
    },
    return503OnClosing: false,
    // A connection that has sent nothing is not idle for Node.js: a close would wait for it for ever.
    forceCloseConnections: true,
    // A path that can't be read meets no hook.
    frameworkErrors: (error, request, reply) => {
      watch(request, reply);
      sendError(error, request, reply);
    },
    clientErrorHandler: clientError,
    ajv: {
      customOptions: {
        coerceTypes: false,
        removeAdditional: false,
        useDefaults: false,
        strict: false,
        // The offending value is told, shortened.
        verbose: true,
      },
    },
  }) as unknown as FastifyInstance;
  app.server.maxConnections = context.options.maxConnections;
  // Schemas describe answers; they must not rewrite them (Fastify's serializer turns null into "" or {}).
  app.setSerializerCompiler(() => (data) => JSON.stringify(data));
  app.removeContentTypeParser('text/plain');
  registerJson(app);
  registerErrors(app);
  // First: what another hook refuses has a line as well.
  registerAccessLog(app, context, watch);
  registerHttpConformance(app);
  registerInFlight(app, context.options.stallTimeout * 1000);
  registerHeaders(app);
  return app;
}
