/** Liveness, readiness, metrics and version, for clusters and operators. None requires a key. */
import type { FastifyInstance } from 'fastify';
import { Type } from '../../util/schema.js';
import { ApiError } from '../api/errors.js';
import { requestIdHeader } from '../api/schemas/headers.js';
import type { GatewayContext } from './context.js';
import { responsesOf } from './docs.js';

const Status = Type.Object({ status: Type.String() });
const Version = Type.Object({ version: Type.String() });
const Load = Type.Object({
  server_load: Type.Integer({ minimum: 0, description: 'Answers in progress, waiting ones included.' }),
});

const tags = ['Operations'];

/** The names of a route in openapi.json. */
type Names = readonly [path: string, operationId: string, summary: string];

function get(app: FastifyInstance, names: Names, answer: Parameters<typeof responsesOf>[0], handler: () => object) {
  const [path, operationId, summary] = names;
  app.get(path, { schema: { operationId, summary, tags, response: responsesOf(answer) } }, handler);
}

/** @throws ApiError while the server accepts no request, or would answer it late */
function ready({ api, draining, options: { readyWait } }: GatewayContext): { readonly status: string } {
  if (draining) throw new ApiError('draining', 'The server is shutting down.');
  if (api?.engine.ready === null) throw new ApiError('loading', 'The model is loading.');
  const waitMs = api === undefined ? 0 : Math.max(api.metrics.waitMs ?? 0, api.engine.unreadMs);
  if (waitMs <= readyWait * 1000) return { status: 'ready' };
  const rule = `more than --ready-wait, ${readyWait} s`;
  throw new ApiError('overloaded', `A new request would wait ${Math.round(waitMs / 1000)} s: ${rule}.`);
}

export function registerHealth(app: FastifyInstance, context: GatewayContext): void {
  const meaning = 'The server process lives. Its status is `loading` while the engine answers no request.';
  const lives = { answer: Status, meaning };
  const live = () => ({ status: context.api?.engine.ready === null ? 'loading' : 'ok' });
  get(app, ['/health', 'health', 'Tell that the process lives'], lives, live);
  get(app, ['/v2/health/live', 'healthLiveV2', 'The same as /health'], lives, live);
  const answers = { answer: Status, meaning: 'The model is loaded, and the server accepts requests.' };
  get(app, ['/health/ready', 'healthReady', 'Tell that the model answers'], answers, () => ready(context));
  get(app, ['/v2/health/ready', 'healthReadyV2', 'The same as /health/ready'], answers, () => ready(context));
  const { version } = context;
  get(app, ['/version', 'version', 'Version of the server'], { answer: Version, meaning: 'Version.' }, () => ({
    version,
  }));
}

/** Series, and the load that a router in front of servers asks for, as vLLM states it. */
export function registerMetrics(app: FastifyInstance, { series: { registry }, peers, api }: GatewayContext): void {
  const response = { 200: { ...Type.String(), headers: requestIdHeader } };
  const names = { operationId: 'metrics', summary: 'Series of Prometheus', tags };
  app.get('/metrics', { schema: { ...names, produces: ['text/plain'], response } }, (_request, reply) => {
    void reply.type(registry.contentType);
    return peers?.metrics() ?? registry.metrics();
  });
  if (api === undefined) return;
  const answer = { answer: Load, meaning: 'The answers that this server holds.' };
  get(app, ['/load', 'load', 'Answers in progress'], answer, () => ({ server_load: api.metrics.live }));
}
