/** Composes the HTTP server, with or without a local model. */
import cors from '@fastify/cors';
import type { FastifyInstance } from 'fastify';
import { browserHeaders } from '../api/schemas/headers.js';
import { registerAuth } from './auth.js';
import { createServer } from './create-server.js';
import { registerBody, registerBodySum } from './plugins/body.js';
import { describeRoutes, registerDocs } from './plugins/docs.js';
import { registerLimits } from './plugins/limits.js';
import { registerTracing } from './plugins/tracing.js';
import { registerUpstreams } from './plugins/upstreams.js';
import { registerRejectWhenDraining } from './shutdown.js';
import { registerEndpoints } from './routes/endpoints.js';
import { registerHealth, registerLoad, registerMetrics } from './routes/operations.js';
import { registerPlayground } from './routes/playground.js';
import { registerUpstreamEndpoints } from './routes/upstream-endpoints.js';
import { type GatewayContext, isLocal } from './context.js';

/** @returns an app that is ready to listen; with an operations port it has by default no /metrics */
export async function createApp(context: GatewayContext): Promise<FastifyInstance> {
  const { options } = context;
  const app = createServer(context);
  registerTracing(app, context);
  await registerCors(app, options.corsOrigin);
  registerAuth(app, context);
  registerRejectWhenDraining(app, context);
  registerLimits(app, context);
  registerBodySum(app, options.maxBody);
  registerUpstreams(app, context);
  registerBody(app);
  if (isLocal(context)) {
    await describeRoutes(app, context.version);
    await registerDocs(app);
    registerEndpoints(app, context);
    registerPlayground(app);
  } else registerUpstreamEndpoints(app, context);
  registerHealth(app, context);
  // An endpoint picker scrapes the port that it sends requests to.
  if (options.opsPort === null || options.mainMetrics) registerOperations(app, context);
  await app.ready();
  return app;
}

/**
 * The operations port: metrics and health. It has its own connection limit, so probes and scrapes succeed when clients
 * hold all connections of the main port.
 * @returns an app that is ready to listen
 */
export async function createOpsApp(context: GatewayContext): Promise<FastifyInstance> {
  const app = createServer(context, false);
  registerRejectWhenDraining(app, context);
  registerHealth(app, context);
  registerOperations(app, context);
  await app.ready();
  return app;
}

function registerOperations(app: FastifyInstance, context: GatewayContext): void {
  registerMetrics(app, context);
  if (isLocal(context)) registerLoad(app, context.api);
}

/** Cross-origin calls from browsers: off unless the operator names origins. */
async function registerCors(app: FastifyInstance, origins: readonly string[]): Promise<void> {
  if (origins.length === 0) return;
  await app.register(cors, {
    origin: origins.includes('*') ? '*' : [...origins],
    exposedHeaders: Object.keys(browserHeaders),
    // With this option on, the plugin rejects a plain OPTIONS with a text body instead of JSON.
    strictPreflight: false,
  });
}
