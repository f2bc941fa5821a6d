/** Registers the endpoints of clients: path, schemas, and the handler of those that answer immediately. */
import type { FastifyInstance } from 'fastify';
import type { GeneratingEndpoint, PlainEndpoint } from '../../api/endpoints/endpoint.js';
import { endpoints } from '../../api/endpoints/index.js';
import { messageIdHeader } from '../../api/schemas/headers.js';
import { anthropic } from '../api-dialect.js';
import type { HttpContext } from '../context.js';
import { clientAbortSignal } from '../response-lifecycle.js';
import { answers, budgetHeaders, MESSAGES_ERROR_ID } from './describe.js';
import { generationHandler } from './generation-handler.js';

export function registerEndpoints(app: FastifyInstance, context: HttpContext): void {
  for (const endpoint of endpoints) {
    if ('operation' in endpoint) registerGenerating(app, context, endpoint);
    else registerPlain(app, context, endpoint);
  }
}

/** The part of openapi.json that all endpoints have. */
const textOf = ({ operationId, summary, tag }: PlainEndpoint | GeneratingEndpoint<object>) => ({
  operationId,
  summary,
  tags: [tag],
});

/** The form of errors in openapi.json. */
const errorsOf = ({ dialect }: Pick<PlainEndpoint, 'dialect'>) =>
  dialect === undefined ? {} : { errorSchema: MESSAGES_ERROR_ID, more: messageIdHeader };

/** Every route requires an API key, where the server has keys. */
const configOf = ({ dialect }: Pick<PlainEndpoint, 'dialect'>) => ({
  protected: true,
  ...(dialect !== undefined && { dialect: anthropic }),
});

function registerGenerating(app: FastifyInstance, context: HttpContext, endpoint: GeneratingEndpoint<object>): void {
  const { path, operation, body, answer, events, moreStatuses = [] } = endpoint;
  const description = `With stream: true, server-sent events ${events}`;
  const response = answers(answer, description, undefined, { generates: true, moreStatuses, ...errorsOf(endpoint) });
  app.post(
    path,
    {
      config: { ...configOf(endpoint), inference: true, operation },
      schema: { ...textOf(endpoint), headers: budgetHeaders, body, response },
    },
    generationHandler(context.api, endpoint, context.options.keepAlive * 1000),
  );
}

function registerPlain(app: FastifyInstance, context: HttpContext, endpoint: PlainEndpoint): void {
  const { path, hiddenPath, body, params, answer, meaning, statuses } = endpoint;
  const register = (url: string, schema: object): void => {
    app.route<{ Params: Record<string, string> }>({
      method: body === undefined ? 'GET' : 'POST',
      url,
      config: configOf(endpoint),
      schema,
      handler: (request, reply) =>
        endpoint.serve(context.api, {
          body: request.body,
          params: request.params,
          caller: request.caller,
          signal: clientAbortSignal(reply),
          isDraining: context.draining,
        }),
    });
  };
  const response = answers(answer, meaning, statuses, errorsOf(endpoint));
  register(path, { ...textOf(endpoint), ...(body && { body }), ...(params && { params }), response });
  if (hiddenPath !== undefined) register(hiddenPath, { hide: true });
}
