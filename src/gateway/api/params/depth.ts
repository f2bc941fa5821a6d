/**
 * The depths that a request allows, from the model's name, the header and the equivalent body field. Each states an
 * exit such as `15`, or a range of exits such as `15-30`.
 *
 * Must not know: budgets, plans.
 */
import type { RequestPolicy } from '../context.js';
import { ApiError, invalid } from '../errors.js';
import { agreed, ASKED, type Headers, headerValues } from '../schemas/headers.js';
import type { SortieRequest } from '../schemas/shared.js';
import type { ServedModel } from '../served-model.js';
import { quoted } from '../../../util/quoted.js';

/** Exits of the model, the shallowest and the deepest one. */
export interface DepthBounds {
  readonly minExit: number;
  readonly maxExit: number;
}

/** The depths that a model offers: numbers of exits, and the layers of a loop if these count loops. */
type Depths = Pick<ServedModel, 'exits' | 'loopLayers'>;

const layersOf = ({ exits }: Pick<ServedModel, 'exits'>): readonly number[] => exits.map(({ layer }) => layer);

/** Bounds as a client writes them. */
export function writtenBounds({ minExit, maxExit }: DepthBounds): string {
  return minExit === maxExit ? String(minExit) : `${minExit}-${maxExit}`;
}

/** The exit of a written number: its own, or the layers that run at an exit of a looped model. */
function exitOf(model: Depths, written: string): number | undefined {
  const { loopLayers } = model;
  const exits = layersOf(model);
  const byNumber = exits.find((exit) => exit === Number(written));
  return byNumber ?? exits.find((exit) => loopLayers !== undefined && exit * loopLayers === Number(written));
}

/** Undefined for another text, and for numbers that are no exits of the model. */
function boundsOf(model: Depths, written: string): DepthBounds | undefined {
  const [, first = '', last = first] = /^(\d{1,9})(?:-(\d{1,9}))?$/.exec(written) ?? [];
  const minExit = exitOf(model, first);
  const maxExit = exitOf(model, last);
  return minExit === undefined || maxExit === undefined || minExit > maxExit ? undefined : { minExit, maxExit };
}

function checkedBounds(model: Depths, written: string, param: string): DepthBounds {
  const bounds = boundsOf(model, written);
  if (bounds !== undefined) return bounds;
  const exits = layersOf(model);
  const all = `${exits.join(', ')}${model.loopLayers === undefined ? '' : ' loops'}`;
  throw invalid(param, `must be an exit of the model (${all}), got ${quoted(written)}`, { exits });
}

/** @returns the bounds and the field or header that states them; null if neither does */
function statedBounds(model: Depths, headers: Headers, body: SortieRequest | undefined) {
  if (body?.exit_layer !== undefined) {
    const param = 'sortie.exit_layer';
    return { bounds: checkedBounds(model, String(body.exit_layer), param), param };
  }
  const param = ASKED.exit;
  const [bounds, ...others] = headerValues(headers, param, 'an exit of the model', (text) =>
    checkedBounds(model, text, param),
  );
  if (bounds === undefined) return null;
  // Depths have no order of preference, so all values must agree.
  agreed(param, [bounds, ...others].map(writtenBounds));
  return { bounds, param };
}

/** All names of a model, the first one first. */
export function namesOf({ name, aliases = [] }: Pick<ServedModel, 'name' | 'aliases'>): readonly string[] {
  return [name, ...aliases];
}

/** The parts of a model name in a request. */
export interface RequestedModel {
  /** One of the model's names, without a depth. */
  readonly name: string;
  /** The exits that the name states; null for a routed name. */
  readonly bounds: DepthBounds | null;
}

/**
 * @param asked the name in the request; absent: the model's first name
 * @throws ApiError model_not_found for any other name
 */
export function requestedModel(model: ServedModel, asked: string = model.name): RequestedModel {
  const names = namesOf(model);
  const name = names.find((each) => asked === each || asked.startsWith(`${each}:`));
  if (name === asked) return { name, bounds: null };
  const bounds = name === undefined ? undefined : boundsOf(model, asked.slice(name.length + 1));
  if (name !== undefined && bounds !== undefined) return { name, bounds };
  const all = names.flatMap((each) => [each, ...layersOf(model).map((layer) => `${each}:${layer}`)]);
  throw new ApiError(
    'model_not_found',
    `This server has no model ${quoted(asked)}; it has ${all.join(', ')}.`,
    'model',
  );
}

/** The operator's rules for depth. A null bound is the model's own. */
export type DepthPolicy = Pick<RequestPolicy, 'minExit' | 'maxExit' | 'minAccuracy'>;

/** The exits that a client may use, shallowest first. */
export function allowedExits(model: Pick<ServedModel, 'exits'>, { minExit, maxExit }: DepthPolicy): readonly number[] {
  return layersOf(model).filter((layer) => layer >= (minExit ?? layer) && layer <= (maxExit ?? layer));
}

/**
 * The allowed exits from the shallowest one whose answers are of use, so that the scheduler buys no time with wrong
 * ones. If all allowed exits are below `--min-accuracy`, the shallowest one is used.
 */
function usualExits({ exits }: ServedModel, policy: DepthPolicy): readonly number[] {
  const { minAccuracy = 0 } = policy;
  const allowed = allowedExits({ exits }, policy);
  const isUseful = (each: number): boolean =>
    (exits.find(({ layer }) => layer === each)?.quality.accuracy ?? 1) >= minAccuracy;
  return allowed.slice(Math.max(0, allowed.findIndex(isUseful)));
}

/**
 * @throws ApiError model_not_found, or invalid_value for a depth that is not allowed or contradicts the model name
 */
export function requestDepth(
  model: ServedModel,
  name: string | undefined,
  headers: Headers,
  body: SortieRequest | undefined,
  policy: DepthPolicy,
): DepthBounds {
  const { bounds: named } = requestedModel(model, name);
  const stated = statedBounds(model, headers, body);
  if (named !== null && stated !== null && writtenBounds(named) !== writtenBounds(stated.bounds)) {
    const rule = `must be the depth in the model name (${writtenBounds(named)}), got ${writtenBounds(stated.bounds)}`;
    throw invalid(stated.param, rule, { exits: layersOf(model) });
  }
  const asked = stated?.bounds ?? named;
  const allowed = allowedExits(model, policy);
  const own =
    asked === null
      ? usualExits(model, policy)
      : allowed.filter((layer) => layer >= asked.minExit && layer <= asked.maxExit);
  const minExit = own[0];
  const maxExit = own.at(-1);
  if (minExit !== undefined && maxExit !== undefined) return { minExit, maxExit };
  const rule = `This client may use the exits ${allowed.join(', ')}; the request asks for another depth.`;
  throw new ApiError('invalid_value', rule, stated?.param ?? 'model', { exits: allowed });
}
