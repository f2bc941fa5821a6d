/**
 * A Fastify app with the parts that every port of the server has: limits, errors in OpenAI's form, headers, access log.
 */
import { AjvCompiler } from '@fastify/ajv-compiler';
import { fastify, LogController, type FastifyInstance } from 'fastify';
import { accessLog, registerAccessLog } from './plugins/access-log.js';
import { registerErrors, sendError } from './plugins/error-handler.js';
import { registerHeaders, requestId } from './plugins/headers.js';
import { registerJson } from './plugins/body.js';
import { registerInFlight } from './shutdown.js';
import { forwardedOf, trustRule } from './forwarded.js';
import { hostRule, registerAllowedHosts } from './plugins/allowed-hosts.js';
import type { GatewayContext } from './context.js';

/** Shared by all apps of the process: compiling the schemas of all routes takes 0.1 s. */
const buildValidator = AjvCompiler();

/** Fastify's options of validation. Bodies are checked as they are, and never changed. */
const VALIDATION = {
  schemaController: { compilersFactory: { buildValidator } },
  ajv: {
    customOptions: {
      coerceTypes: false,
      removeAdditional: false,
      useDefaults: false,
      strict: false,
      // The schemas are our own; openapi.test.ts checks them against the meta-schema. Its compilation, and Ajv's own
      // optimization of code that V8 optimizes again, would take 0.2 s of each start.
      meta: false,
      validateSchema: false,
      code: { optimize: false },
      // Error messages quote the offending value, shortened.
      verbose: true,
    },
  },
};

/** Closes further connections. By Node.js's own bound, full workers would hand a connection to each other for ever. */
function boundConnections({ server }: FastifyInstance, most: number): void {
  let open = 0;
  server.on('connection', (socket) => {
    if (++open > most) socket.destroy();
    socket.once('close', () => open--);
  });
}

/** @param needsKey whether requests need a key, where the server has keys */
export function createServer(context: GatewayContext, needsKey = true): FastifyInstance {
  const timeoutMs = context.options.requestTimeout * 1000;
  const watch = accessLog(context);
  const isTrusted = trustRule(context.options.trustedProxies);
  const app = fastify({
    loggerInstance: context.log,
    // access-log.ts writes one line per request instead of Fastify's two.
    logController: new LogController({ disableRequestLogging: true }),
    requestIdHeader: false,
    genReqId: requestId,
    bodyLimit: context.options.maxBody,
    requestTimeout: timeoutMs,
    // Node.js checks for late requests at this interval (default 30 s).
    http: {
      connectionsCheckingInterval: Math.min(5000, timeoutMs / 2),
      headersTimeout: timeoutMs,
    },
    return503OnClosing: false,
    // For Node.js a connection that has sent nothing is not idle, so a close would wait for it for ever.
    forceCloseConnections: true,
    // A request with an unreadable path runs no hook.
    frameworkErrors: (error, request, reply) => {
      request.forwarded = forwardedOf(request, reply, isTrusted);
      watch(request, reply);
      sendError(error, request, reply);
    },
    ...VALIDATION,
  }) as unknown as FastifyInstance;
  boundConnections(app, context.options.maxConnections);
  // Schemas describe answers and must not rewrite them: Fastify's serializer turns null into "" or {}.
  app.setSerializerCompiler(() => (data) => JSON.stringify(data));
  app.removeContentTypeParser('text/plain');
  registerJson(app);
  registerErrors(app);
  app.decorateRequest('forwarded');
  app.addHook('onRequest', (request, reply, done) => {
    request.forwarded = forwardedOf(request, reply, isTrusted);
    done();
  });
  // The access log comes before all checks, so that a request rejected by a later hook is logged as well.
  registerAccessLog(app, context, watch);
  registerAllowedHosts(app, hostRule(context.options, context.apiKeys.length, needsKey && context.apiKeys.length > 0));
  registerInFlight(app, context.options.stallTimeout * 1000);
  registerHeaders(app);
  return app;
}
