/** Registers the endpoints of clients: path, schemas, and the handler of those that answer immediately. */
import type { FastifyInstance } from 'fastify';
import type { GeneratingEndpoint, PlainEndpoint } from '../../api/endpoints/endpoint.js';
import { endpoints } from '../../api/endpoints/index.js';
import { anthropic } from '../api-dialect.js';
import { FairQuota } from '../../../util/fair-quota.js';
import { ApiError } from '../../api/errors.js';
import type { HttpContext } from '../context.js';
import { clientAbortSignal } from '../response-lifecycle.js';
import { schemaOf } from './describe.js';
import { generationHandler } from './generation-handler.js';

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Whether the request counts against its key and tenant, although it generates nothing. */
    readonly isShared?: boolean;
  }
}

/** Most texts of a tenant alone that are counted at a time: each turn of the event loop encodes a part of all. */
const MOST_COUNTED = 4;

/** Runs work in a place of its tenant. @throws ApiError queue_full */
async function inPlace<T>(places: FairQuota, tenant: string, work: () => T | Promise<T>): Promise<T> {
  if (places.available(tenant) < 1)
    throw new ApiError('queue_full', 'Too many texts of this client are being tokenized; try again shortly.');
  places.acquire(tenant, 1);
  try {
    return await work();
  } finally {
    places.release(tenant, 1);
  }
}

export function registerEndpoints(app: FastifyInstance, context: HttpContext): void {
  const places = new FairQuota(MOST_COUNTED);
  for (const endpoint of endpoints) {
    if ('operation' in endpoint) registerGenerating(app, context, endpoint);
    else registerPlain(app, context, endpoint, places);
  }
}

/** Every route requires an API key, where the server has keys. */
export const configOf = ({ dialect }: Pick<PlainEndpoint, 'dialect'>) => ({
  protected: true,
  ...(dialect !== undefined && { dialect: anthropic }),
});

function registerGenerating(app: FastifyInstance, context: HttpContext, endpoint: GeneratingEndpoint<object>): void {
  const config = { ...configOf(endpoint), inference: true, operation: endpoint.operation };
  const handler = generationHandler(context.api, endpoint, context.options.keepAlive * 1000);
  app.post(endpoint.path, { config, schema: schemaOf(endpoint) }, handler);
}

function registerPlain(app: FastifyInstance, context: HttpContext, endpoint: PlainEndpoint, places: FairQuota): void {
  const { isShared = false, path, hiddenPath, body } = endpoint;
  const register = (url: string, schema: object): void => {
    app.route<{ Params: Record<string, string> }>({
      method: body === undefined ? 'GET' : 'POST',
      url,
      config: { ...configOf(endpoint), isShared },
      schema,
      handler: (request, reply) => {
        const { body, params, caller } = request;
        const signal = clientAbortSignal(reply);
        const serve = () => endpoint.serve(context.api, { body, params, caller, signal, isDraining: context.draining });
        return isShared ? inPlace(places, caller.tenant, serve) : serve();
      },
    });
  };
  register(path, schemaOf(endpoint));
  if (hiddenPath !== undefined) register(hiddenPath, { hide: true });
}
