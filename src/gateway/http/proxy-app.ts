/** Composes the HTTP server of a gateway without a local model. The hooks are those of gateway-server.ts. */
import type { FastifyInstance } from 'fastify';
import type { Limits } from '../api/context.js';
import { endpoints } from '../api/endpoints/index.js';
import { ELSEWHERE } from '../api/endpoints/elsewhere.js';
import { upstreamCard } from '../api/endpoints/models.js';
import { ApiError } from '../api/errors.js';
import { quoted } from '../../util/quoted.js';
import { createServer } from './create-server.js';
import { createGatewayServer, hasMainMetrics } from './gateway-server.js';
import { anthropic } from './api-dialect.js';
import { registerHealth, registerMetrics } from './routes/operations.js';
import { registerRejectWhenDraining } from './shutdown.js';
import type { GatewayContext } from './context.js';

export interface ProxyContext extends GatewayContext {
  readonly upstreams: NonNullable<GatewayContext['upstreams']>;
}

/** @returns an app that is ready to listen; with an operations port it has by default no /metrics */
export async function createProxyApp(context: ProxyContext, limits: Pick<Limits, 'policy'>): Promise<FastifyInstance> {
  const app = await createGatewayServer(context, limits);
  registerRoutes(app, context);
  registerHealth(app, context);
  if (hasMainMetrics(context)) registerMetrics(app, context);
  await app.ready();
  return app;
}

/** The operations port: metrics and health. */
export async function createProxyOpsApp(context: ProxyContext): Promise<FastifyInstance> {
  const app = createServer(context, false);
  registerRejectWhenDraining(app, context);
  registerHealth(app, context);
  registerMetrics(app, context);
  await app.ready();
  return app;
}

/** The endpoints of clients. The hook of upstreams answers requests that name one of their models. */
function registerRoutes(app: FastifyInstance, { upstreams }: ProxyContext): void {
  const created = Math.floor(Date.now() / 1000);
  const cards = upstreams.names.map((name) => upstreamCard(name, created));
  const unknown = (model: unknown): ApiError => {
    const names = upstreams.names.join(', ');
    if (typeof model !== 'string') return new ApiError('invalid_value', `model must be one of ${names}.`, 'model');
    return new ApiError('model_not_found', `This server has no model ${quoted(model)}; it has ${names}.`, 'model');
  };
  const config = { protected: true };
  for (const endpoint of endpoints) {
    const { path, dialect } = endpoint;
    const own = { ...config, ...(dialect !== undefined && { dialect: anthropic }) };
    if ('operation' in endpoint) {
      const isTranslated = path in ELSEWHERE;
      const options = {
        config: { ...own, inference: true, operation: endpoint.operation },
        // Other bodies pass as they are.
        ...(isTranslated && { schema: { body: endpoint.body } }),
      };
      app.post(path, options, ({ body }) => {
        throw unknown((body as { model?: unknown } | null)?.model);
      });
    } else if (!path.startsWith('/v1/models')) {
      app.all(path, { config: own }, () => {
        const message = `${path} needs a local model, and this server runs with --no-local.`;
        throw new ApiError('route_not_found', message);
      });
    }
  }
  app.get('/v1/models', { config }, () => ({ object: 'list', data: cards }));
  app.get<{ Params: { '*': string } }>('/v1/models/*', { config }, ({ params }) => {
    const card = cards.find(({ id }) => id === params['*']);
    if (card === undefined) throw unknown(params['*']);
    return card;
  });
}
