/** Liveness, readiness, metrics and version, for clusters and operators. None requires a key. */
import type { FastifyInstance } from 'fastify';
import { type Static, Type } from '../../../util/schema.js';
import { requestIdHeader } from '../../api/schemas/headers.js';
import type { ApiContext } from '../../api/context.js';
import { ApiError } from '../../api/errors.js';
import type { GatewayContext } from '../context.js';
import { responsesOf } from './describe.js';

const Status = Type.Object({ status: Type.String() });
const Version = Type.Object({ version: Type.String() });

const tags = ['Operations'];

export function registerHealth(app: FastifyInstance, context: GatewayContext): void {
  const live = () => ({ status: context.api?.engine.ready === null ? 'loading' : 'ok' });
  const ready = () => {
    if (context.draining) throw new ApiError('draining', 'The server is shutting down.');
    const { api } = context;
    if (api === undefined) return { status: 'ready' };
    if (api.engine.ready === null) throw new ApiError('loading', 'The model is loading.');
    const { readyWait } = context.options;
    const waitMs = Math.max(api.metrics.waitMs ?? 0, api.engine.unreadMs);
    if (waitMs > readyWait * 1000) {
      const rule = `more than --ready-wait, ${readyWait} s`;
      throw new ApiError('overloaded', `A new request would wait ${Math.round(waitMs / 1000)} s: ${rule}.`);
    }
    return { status: 'ready' };
  };
  const get = (path: string, operationId: string, summary: string, meaning: string, handler: () => object) => {
    const response = responsesOf({ answer: Status, meaning });
    app.get(path, { schema: { operationId, summary, tags, response } }, handler);
  };
  const lives = 'The server process lives. Its status is `loading` while the engine answers no request.';
  const answers = 'The model is loaded, and the server accepts requests.';
  get('/health', 'health', 'Tell that the process lives', lives, live);
  get('/v2/health/live', 'healthLiveV2', 'The same as /health', lives, live);
  get('/health/ready', 'healthReady', 'Tell that the model answers', answers, ready);
  get('/v2/health/ready', 'healthReadyV2', 'The same as /health/ready', answers, ready);
  const response = responsesOf({ answer: Version, meaning: 'Version.' });
  const schema = { operationId: 'version', summary: 'Version of the server', tags, response };
  app.get('/version', { schema }, () => ({ version: context.version }));
}

const Load = Type.Object({
  server_load: Type.Integer({ minimum: 0, description: 'Answers in progress, waiting ones included.' }),
});

/** The load that a router in front of servers asks for, as vLLM states it. */
export function registerLoad(app: FastifyInstance, { metrics }: ApiContext): void {
  const response = responsesOf({ answer: Load, meaning: 'The answers that this server holds.' });
  const schema = { operationId: 'load', summary: 'Answers in progress', tags, response };
  app.get('/load', { schema }, (): Static<typeof Load> => ({ server_load: metrics.live }));
}

export function registerMetrics(app: FastifyInstance, context: GatewayContext): void {
  app.get(
    '/metrics',
    {
      schema: {
        operationId: 'metrics',
        summary: 'Series of Prometheus',
        tags,
        produces: ['text/plain'],
        response: { 200: { ...Type.String(), headers: requestIdHeader } },
      },
    },
    async (_request, reply) => {
      void reply.type(context.series.registry.contentType);
      return context.peers?.metrics() ?? context.series.registry.metrics();
    },
  );
}
