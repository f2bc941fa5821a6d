/** Composes the HTTP server. Hooks run in the order of registration here. */
import cors from '@fastify/cors';
import type { FastifyInstance } from 'fastify';
import { browserHeaders } from '../api/schemas/headers.js';
import { createServer } from './create-server.js';
import { registerAuth } from './auth.js';
import { registerBody, registerBodySum } from './plugins/body.js';
import { describeRoutes, registerDocs, registerForeignDocs } from './plugins/docs.js';
import { registerRejectWhenDraining } from './shutdown.js';
import { registerLimits } from './plugins/limits.js';
import { registerEndpoints } from './routes/endpoints.js';
import { registerHealth, registerLoad, registerMetrics } from './routes/operations.js';
import { registerPlayground } from './routes/playground.js';
import { registerTracing } from './plugins/tracing.js';
import { registerUpstreams } from './plugins/upstreams.js';
import type { HttpContext } from './context.js';

/** @returns an app that is ready to listen; with an operations port it has no /docs and by default no /metrics */
export async function createApp(context: HttpContext): Promise<FastifyInstance> {
  const app = createServer(context);
  registerTracing(app, context);
  await registerCors(app, context.options.corsOrigin);
  registerAuth(app, context);
  registerRejectWhenDraining(app, context);
  registerLimits(app, context);
  registerBodySum(app, context.options.maxBody);
  registerUpstreams(app, context, context.api.limits);
  registerBody(app);
  await describeRoutes(app, context.version);
  if (context.options.opsPort === null) await registerDocs(app);
  registerEndpoints(app, context);
  registerHealth(app, context);
  // An endpoint picker scrapes the port that it sends requests to.
  if (context.options.opsPort === null || context.options.mainMetrics) {
    registerMetrics(app, context);
    registerLoad(app, context);
  }
  registerPlayground(app, { hasOps: context.options.opsPort === null });
  await app.ready();
  return app;
}

/**
 * The operations port: metrics, the docs of `main`, and health. It has its own connection limit, so probes and scrapes
 * succeed when clients hold all connections of the main port.
 * @returns an app that is ready to listen
 */
export async function createOpsApp(context: HttpContext, main: FastifyInstance): Promise<FastifyInstance> {
  const app = createServer(context, false);
  registerRejectWhenDraining(app, context);
  await registerForeignDocs(app, main);
  registerHealth(app, context);
  registerMetrics(app, context);
  registerLoad(app, context);
  await app.ready();
  return app;
}

/** Cross-origin calls from browsers: off unless the operator names origins. */
export async function registerCors(app: FastifyInstance, origins: readonly string[]): Promise<void> {
  if (origins.length === 0) return;
  await app.register(cors, {
    origin: origins.includes('*') ? '*' : [...origins],
    exposedHeaders: Object.keys(browserHeaders),
    // With this option on, the plugin rejects a plain OPTIONS with a text body instead of JSON.
    strictPreflight: false,
  });
}
