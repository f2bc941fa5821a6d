/** Composes the HTTP server. The hooks are those of gateway-server.ts. */
import type { FastifyInstance } from 'fastify';
import { createServer } from './create-server.js';
import { createGatewayServer, hasMainMetrics } from './gateway-server.js';
import { describeRoutes, registerDocs, registerForeignDocs } from './plugins/docs.js';
import { registerRejectWhenDraining } from './shutdown.js';
import { registerEndpoints } from './routes/endpoints.js';
import { registerHealth, registerLoad, registerMetrics } from './routes/operations.js';
import { registerPlayground } from './routes/playground.js';
import type { HttpContext } from './context.js';

/** @returns an app that is ready to listen; with an operations port it has no /docs and by default no /metrics */
export async function createApp(context: HttpContext): Promise<FastifyInstance> {
  const app = await createGatewayServer(context, context.api.limits);
  await describeRoutes(app, context.version);
  if (context.options.opsPort === null) await registerDocs(app);
  registerEndpoints(app, context);
  registerHealth(app, context);
  if (hasMainMetrics(context)) {
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
