/** GET /v1/models, /v1/models/{id} and /props. */
import type { FastifyInstance } from 'fastify';
import { Type, nullable } from '../../util/schema.js';
import { getModel, listModels, props } from '../../api/models.js';
import { ApiError } from '../../api/errors.js';
import type { HttpContext } from '../context.js';
import { answers, withKey } from './describe.js';

const Card = Type.Object({
  id: Type.String(),
  object: Type.Literal('model'),
  created: Type.Integer(),
  owned_by: Type.String(),
  root: Type.String(),
  parent: nullable(Type.String()),
  max_model_len: Type.Integer(),
  exit_layer: nullable(Type.Integer()),
  loops: Type.Optional(Type.Integer({ description: 'Loops of this exit, which number the exits of a looped model.' })),
  layers: Type.Optional(Type.Integer({ description: 'Layers that these loops run.' })),
});

const List = Type.Object({ object: Type.Literal('list'), data: Type.Array(Card) });
const Props = Type.Object({}, { additionalProperties: true });

export function registerModels(app: FastifyInstance, context: HttpContext): void {
  const tags = ['OpenAI'];
  app.get(
    '/v1/models',
    withKey({
      operationId: 'listModels',
      summary: 'List the model, and one name for each exit',
      tags,
      response: answers(List, 'The routed model, and one model per exit that the client may use.', [401, 405, 503]),
    }),
    (request) => {
      // Some clusters probe this route. Like /health/ready, it reports when the server takes no new requests.
      if (context.draining) throw new ApiError('draining', 'The server is shutting down.');
      return listModels(context.api, request.caller);
    },
  );
  app.get<{ Params: { model: string } }>(
    '/v1/models/:model',
    withKey({
      operationId: 'getModel',
      summary: 'Describe one model',
      tags,
      params: Type.Object({ model: Type.String({ description: 'The model id. Its slashes need no escaping.' }) }),
      response: answers(Card, 'One model.', [401, 404, 405, 503]),
    }),
    (request) => getModel(context.api, request.params.model, request.caller),
  );
  // Model ids have slashes, as on the Hub (org/name), and clients do not escape them. The document has the route above
  // only.
  app.get<{ Params: { '*': string } }>('/v1/models/*', withKey({ hide: true }), (request) =>
    getModel(context.api, request.params['*'], request.caller),
  );
  app.get(
    '/props',
    withKey({
      operationId: 'getProps',
      summary: 'Exits with their quality, calibration, limits',
      tags: ['Sortie'],
      response: answers(Props, 'Properties of this server.', [401, 405, 503]),
    }),
    (request) => props(context.api, request.caller),
  );
}
