/** Liveness, readiness, metrics and version, for clusters and operators. None requires a key. */
import type { FastifyInstance } from 'fastify';
import { Type } from '../../util/schema.js';
import { loadHeader, requestIdHeader } from '../../api/schemas/headers.js';
import { ApiError } from '../../api/errors.js';
import type { HttpContext } from '../context.js';
import { answers } from './describe.js';

const Status = Type.Object({ status: Type.String() });

const tags = ['Operations'];

export function registerHealth(app: FastifyInstance, context: HttpContext): void {
  const live = () => ({ status: 'ok' });
  const ready = () => {
    if (context.draining) throw new ApiError('draining', 'The server is shutting down.');
    if (context.api.engine.ready === null) throw new ApiError('loading', 'The model is loading.');
    const { readyWait } = context.options;
    const waitMs = Math.max(context.waitMs() ?? 0, context.api.engine.unreadMs);
    if (waitMs > readyWait * 1000) {
      const rule = `more than --ready-wait, ${readyWait} s`;
      throw new ApiError('overloaded', `A new request would wait ${Math.round(waitMs / 1000)} s: ${rule}.`);
    }
    return { status: 'ready' };
  };
  const liveAnswers = answers(Status, 'The server process lives. This says nothing about the engine.', []);
  const readyAnswers = answers(Status, 'The model is loaded, and the server accepts requests.', [503]);
  app.get('/health', { schema: { operationId: 'health', tags, response: liveAnswers } }, live);
  app.get('/v2/health/live', { schema: { operationId: 'healthLiveV2', tags, response: liveAnswers } }, live);
  app.get('/health/ready', { schema: { operationId: 'healthReady', tags, response: readyAnswers } }, ready);
  app.get('/v2/health/ready', { schema: { operationId: 'healthReadyV2', tags, response: readyAnswers } }, ready);
  app.get(
    '/version',
    {
      schema: {
        operationId: 'version',
        tags,
        response: answers(Type.Object({ version: Type.String() }), 'Version.', []),
      },
    },
    () => ({ version: context.version }),
  );
}

export function registerMetrics(app: FastifyInstance, context: HttpContext): void {
  app.get(
    '/metrics',
    {
      schema: {
        operationId: 'metrics',
        tags,
        produces: ['text/plain'],
        response: { 200: { ...Type.String(), headers: { ...requestIdHeader, ...loadHeader } } },
      },
    },
    async (_request, reply) => {
      void reply.type(context.series.registry.contentType);
      return context.series.registry.metrics();
    },
  );
}
