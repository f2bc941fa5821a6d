/** The endpoints of a server without a local model. The hook of upstreams answers requests that name one of theirs. */
import type { FastifyInstance } from 'fastify';
import { endpoints } from '../../api/endpoints/index.js';
import { upstreamCard } from '../../api/endpoints/models.js';
import { ApiError } from '../../api/errors.js';
import { quoted } from '../../../util/quoted.js';
import type { GatewayContext } from '../context.js';
import { configOf } from './endpoints.js';

/** The playground compares depths of a local model. */
const HOME = `Sortie in front of upstream models.

GET  /v1/models            lists them
POST /v1/chat/completions  asks one; X-Latency-Budget-Ms is its deadline
GET  /metrics              series for Prometheus
`;

export function registerUpstreamEndpoints(app: FastifyInstance, { upstreams }: GatewayContext): void {
  const names = upstreams?.names ?? [];
  const created = Math.floor(Date.now() / 1000);
  const cards = names.map((name) => upstreamCard(name, created));
  const unknown = (model: unknown): ApiError => {
    if (typeof model !== 'string')
      return new ApiError('invalid_value', `model must be one of ${names.join(', ')}.`, 'model');
    const message = `This server has no model ${quoted(model)}; it has ${names.join(', ')}.`;
    return new ApiError('model_not_found', message, 'model');
  };
  for (const endpoint of endpoints) {
    const { path } = endpoint;
    const config = configOf(endpoint);
    if ('operation' in endpoint) {
      // A body that is not translated passes as it is.
      const schema = endpoint.elsewhere === undefined ? {} : { body: endpoint.body };
      app.post(path, { config: { ...config, inference: true, operation: endpoint.operation }, schema }, ({ body }) => {
        throw unknown((body as { model?: unknown } | null)?.model);
      });
    } else if (!path.startsWith('/v1/models')) {
      app.all(path, { config }, () => {
        const message = `${path} needs a local model, and this server runs with --no-local.`;
        throw new ApiError('route_not_found', message);
      });
    }
  }
  app.get('/', { schema: { hide: true } }, () => HOME);
  const config = { protected: true };
  app.get('/v1/models', { config }, () => ({ object: 'list', data: cards }));
  app.get<{ Params: { '*': string } }>('/v1/models/*', { config }, ({ params }) => {
    const card = cards.find(({ id }) => id === params['*']);
    if (card === undefined) throw unknown(params['*']);
    return card;
  });
}
