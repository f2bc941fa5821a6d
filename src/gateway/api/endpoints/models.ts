/** GET /v1/models and /v1/models/{id}: the model, with one name for each exit, and upstream models. */
import { nullable, Type } from '../../../util/schema.js';
import { type ApiContext, type Caller, policyOf, readyEngine } from '../context.js';
import { ApiError } from '../errors.js';
import { allowedExits, namesOf, requestedModel, type RequestedModel, writtenBounds } from '../params/depth.js';
import type { ServedModel } from '../served-model.js';
import type { PlainEndpoint } from './endpoint.js';

const Card = Type.Object({
  id: Type.String(),
  object: Type.Literal('model'),
  created: Type.Integer(),
  owned_by: Type.String(),
  root: Type.String(),
  parent: nullable(Type.String()),
  max_model_len: nullable(Type.Integer(), { description: 'Null for an upstream model, which has its own bound.' }),
  exit_layer: nullable(Type.Integer()),
  loops: Type.Optional(Type.Integer({ description: 'Loops of this exit, which number the exits of a looped model.' })),
  layers: Type.Optional(Type.Integer({ description: 'Layers that these loops run.' })),
});

const List = Type.Object({ object: Type.Literal('list'), data: Type.Array(Card) });

function card(context: ApiContext, { name, bounds }: RequestedModel) {
  const { model, engine } = context;
  const exit = bounds?.minExit === bounds?.maxExit ? (bounds?.minExit ?? null) : null;
  return {
    id: bounds === null ? name : `${name}:${writtenBounds(bounds)}`,
    object: 'model',
    created: model.created,
    owned_by: 'sortie',
    // vLLM's benchmark reads `root`.
    root: model.name,
    parent: null,
    max_model_len: engine.ready?.maxLength ?? model.context,
    exit_layer: exit,
    ...loopsOf(model, exit),
  };
}

/** A model that runs elsewhere. */
export function upstreamCard(name: string, created: number) {
  const own = { id: name, object: 'model', created, owned_by: 'upstream', root: name };
  return { ...own, parent: null, max_model_len: null, exit_layer: null };
}

/** Loops of an exit of a looped model and the layers that they run; nothing for another model. */
export function loopsOf({ loopLayers }: ServedModel, exit: number | null): { loops?: number; layers?: number } {
  return exit === null || loopLayers === undefined ? {} : { loops: exit, layers: exit * loopLayers };
}

/** The exits that the client may pin. */
export function exitsFor({ model, limits }: ApiContext, { policy }: Caller): readonly number[] {
  return allowedExits(model, policyOf(limits.policy, policy));
}

export const listModels: PlainEndpoint = {
  path: '/v1/models',
  operationId: 'listModels',
  summary: 'List the model, and one name for each exit',
  tag: 'OpenAI',
  answer: List,
  meaning: 'The routed model, one model per exit that the client may use, and upstream models.',
  /** For each name, one card for the routed model and one per exit that the client may pin. */
  serve(context, { caller, isDraining }) {
    // Some clusters probe this route. Like /health/ready, it reports when the server takes no new requests.
    if (isDraining) throw new ApiError('draining', 'The server is shutting down.');
    readyEngine(context);
    const pins = exitsFor(context, caller).map((exit) => ({ minExit: exit, maxExit: exit }));
    return {
      object: 'list',
      data: [
        ...namesOf(context.model).flatMap((name) => [null, ...pins].map((bounds) => card(context, { name, bounds }))),
        ...(context.upstreamNames ?? []).map((name) => upstreamCard(name, context.model.created)),
      ],
    };
  },
};

export const getModel: PlainEndpoint = {
  path: '/v1/models/:model',
  // Model ids have slashes, as on the Hub (org/name), and clients do not escape them.
  hiddenPath: '/v1/models/*',
  operationId: 'getModel',
  summary: 'Describe one model',
  tag: 'OpenAI',
  params: Type.Object({ model: Type.String({ description: 'The model id. Its slashes need no escaping.' }) }),
  answer: Card,
  meaning: 'One model.',
  /** @throws ApiError model_not_found, also for an exit that the client may not use */
  serve(context, { params, caller }) {
    readyEngine(context);
    const name = params.model ?? params['*'] ?? '';
    if (context.upstreamNames?.includes(name) === true) return upstreamCard(name, context.model.created);
    const requested = requestedModel(context.model, name);
    const { bounds } = requested;
    if (bounds !== null && ![bounds.minExit, bounds.maxExit].every((exit) => exitsFor(context, caller).includes(exit)))
      throw new ApiError('model_not_found', `This client may not use exit ${writtenBounds(bounds)}.`, 'model');
    return card(context, requested);
  },
};
