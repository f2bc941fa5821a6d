/**
 * Composes the HTTP server. The order of hooks is the order here.
 *
 * Knows: which plugin comes when. Must not know: process concerns (main.ts), what an endpoint does.
 */
import { fastify, LogController, type FastifyInstance } from 'fastify';
import { registerAccessLog } from './plugins/access-log.js';
import { registerAuth } from './plugins/auth.js';
import { registerBody } from './plugins/body.js';
import { registerCors } from './plugins/cors.js';
import { registerDocs } from './plugins/docs.js';
import { registerDrain } from './plugins/drain.js';
import { clientError, registerErrors, sendError } from './plugins/errors.js';
import { registerOpenResponses } from './plugins/open-responses.js';
import { registerHeaders, requestId } from './plugins/headers.js';
import { registerGeneration } from './routes/generate.js';
import { registerModels } from './routes/models.js';
import { registerOperations } from './routes/operations.js';
import { registerPlayground } from './routes/playground.js';
import { registerTokenize } from './routes/tokenize.js';
import type { HttpContext } from './state.js';

/** @returns an app that is ready to listen */
export async function createApp(context: HttpContext): Promise<FastifyInstance> {
  const timeoutMs = context.options.requestTimeout * 1000;
  const app = fastify({
    loggerInstance: context.log,
    // access-log.ts writes one line per request instead of Fastify's two.
    logController: new LogController({ disableRequestLogging: true }),
    requestIdHeader: false,
    genReqId: requestId,
    bodyLimit: context.options.maxBody,
    requestTimeout: timeoutMs,
    // Node looks for late requests only that often (default 30 s).
    http: { connectionsCheckingInterval: Math.min(5000, timeoutMs / 2), headersTimeout: timeoutMs },
    return503OnClosing: false,
    forceCloseConnections: false,
    frameworkErrors: sendError,
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
  registerErrors(app);
  registerOpenResponses(app, context.options.stallTimeout * 1000);
  registerHeaders(app);
  registerAccessLog(app, context);
  await registerCors(app, context.options.corsOrigin);
  registerAuth(app, context.apiKeys);
  registerDrain(app, context);
  registerBody(app);
  await registerDocs(app, context.version);
  registerGeneration(app, context);
  registerModels(app, context);
  registerTokenize(app, context);
  registerOperations(app, context);
  registerPlayground(app);
  await app.ready();
  return app;
}
