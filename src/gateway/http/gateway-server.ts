/** The HTTP server and the hooks that gateways with and without a local model share, in their order. */
import cors from '@fastify/cors';
import type { FastifyInstance } from 'fastify';
import type { Limits } from '../api/context.js';
import { browserHeaders, netHeaders, SOURCE_HEADER } from '../api/schemas/headers.js';
import { registerAuth } from './auth.js';
import type { GatewayContext } from './context.js';
import { createServer } from './create-server.js';
import { registerBody, registerBodySum } from './plugins/body.js';
import { registerLimits } from './plugins/limits.js';
import { registerTracing } from './plugins/tracing.js';
import { registerUpstreams } from './plugins/upstreams.js';
import { registerRejectWhenDraining } from './shutdown.js';

/** @param limits of all clients @returns a server without routes */
export async function createGatewayServer(
  context: GatewayContext,
  limits: Pick<Limits, 'policy'>,
): Promise<FastifyInstance> {
  const app = createServer(context);
  registerTracing(app, context);
  await registerCors(app, context.options.corsOrigin);
  registerAuth(app, context);
  registerRejectWhenDraining(app, context);
  registerLimits(app, context);
  registerBodySum(app, context.options.maxBody);
  registerUpstreams(app, context, limits);
  registerBody(app);
  return app;
}

/** Whether the port of clients has the metrics: an endpoint picker scrapes the port that it sends requests to. */
export const hasMainMetrics = ({ options }: Pick<GatewayContext, 'options'>): boolean =>
  options.opsPort === null || options.mainMetrics;

/** Cross-origin calls from browsers: off unless the operator names origins. */
async function registerCors(app: FastifyInstance, origins: readonly string[]): Promise<void> {
  if (origins.length === 0) return;
  await app.register(cors, {
    origin: origins.includes('*') ? '*' : [...origins],
    exposedHeaders: [...Object.keys({ ...browserHeaders, ...netHeaders }), SOURCE_HEADER],
    // With this option on, the plugin rejects a plain OPTIONS with a text body instead of JSON.
    strictPreflight: false,
  });
}
