/** Composes the HTTP server, with or without a local model. */
import cors from '@fastify/cors';
import type { FastifyInstance } from 'fastify';
import { pino } from 'pino';
import { type ApiContext, openPolicy } from '../api/context.js';
import { browserHeaders } from '../api/schemas/headers.js';
import { registerArrival, registerBody } from './body.js';
import { identified } from './caller.js';
import { type GatewayContext, isLocal } from './context.js';
import { describeRoutes } from './docs.js';
import { registerEndpoints } from './endpoints.js';
import { registerHealth, registerMetrics } from './operations.js';
import { registerPlayground } from './playground.js';
import { resolveOptions } from '../../cli/options/config.js';
import { createSeries } from '../telemetry/series.js';
import { traced } from './request-log.js';
import { createServer, onArrival } from './server.js';
import { rejectedWhenDraining } from './shutdown.js';
import { registerTurns } from './turns.js';
import { registerUpstreams, registerWithoutLocal } from './upstreams.js';

/** @returns an app that is ready to listen; with an operations port it has by default no /metrics */
export async function createApp(context: GatewayContext): Promise<FastifyInstance> {
  const { options } = context;
  const app = createServer(context);
  onArrival(app, [traced(context)]);
  await registerCors(app, options.corsOrigin);
  onArrival(app, [rejectedWhenDraining(context), identified(context)]);
  // Ahead of the sum of bodies: a request that waits for its turn has none on its way.
  registerTurns(app);
  registerArrival(app, options.maxBody);
  registerUpstreams(app, context);
  registerBody(app);
  if (isLocal(context)) {
    await describeRoutes(app, context.version);
    registerEndpoints(app, context);
    registerPlayground(app);
  } else registerWithoutLocal(app, context);
  registerHealth(app, context);
  // An endpoint picker scrapes the port that it sends requests to.
  if (options.opsPort === null || options.mainMetrics) registerMetrics(app, context);
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
  onArrival(app, [rejectedWhenDraining(context)]);
  registerHealth(app, context);
  registerMetrics(app, context);
  await app.ready();
  return app;
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

/**
 * The OpenAPI document as text, reproducible byte by byte. `npm run openapi` writes the committed file; CI compares it.
 * The app describes its routes, and serves no request.
 */
export async function openapiDocument(version: string): Promise<string> {
  const app = await createApp({
    api: {} as ApiContext,
    series: createSeries('none'),
    options: resolveOptions({}, {}),
    apiKeys: [],
    tracing: null,
    version,
    policy: openPolicy,
    log: pino({ level: 'silent' }),
    draining: false,
  });
  const text = `${JSON.stringify(app.swagger(), null, 2)}\n`;
  await app.close();
  return text;
}
