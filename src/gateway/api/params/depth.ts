/**
 * The depths that a request allows, from the model's name, headers and the equivalent body fields.
 *
 * Must not know: budgets, plans.
 */
import type { RequestPolicy } from '../context.js';
import { ApiError, invalid } from '../errors.js';
import { agreed, ASKED, type Headers, headerValues } from '../schemas/headers.js';
import type { SortieRequest } from '../schemas/shared.js';
import type { ServedModel } from '../served-model.js';
import { quoted } from '../../../util/quoted.js';

export interface DepthBounds {
  readonly minExit: number;
  readonly maxExit: number;
}

type Exits = readonly number[];

/** The depths that a model offers: numbers of exits, and the layers of a loop if these count loops. */
type Depths = Pick<ServedModel, 'exits' | 'loopLayers'>;

/** The exit of a written number: its own, or the layers that run at an exit of a looped model. */
function exitOf({ exits, loopLayers }: Depths, written: number): number | undefined {
  const numbers = exits.map(({ layer }) => layer);
  if (numbers.includes(written) || loopLayers === undefined) return numbers.find((number) => number === written);
  return numbers.find((number) => number * loopLayers === written);
}

function checkedExit(model: Depths, written: string | number, param: string): number {
  const exit = /^\d+$/.test(String(written)) ? exitOf(model, Number(written)) : undefined;
  if (exit !== undefined) return exit;
  const exits = model.exits.map(({ layer }) => layer);
  const all = `${exits.join(', ')}${model.loopLayers === undefined ? '' : ' loops'}`;
  throw invalid(param, `must be an exit of the model (${all}), got ${quoted(String(written))}`, { exits });
}

/** @returns the layer and the field or header that states it; null if neither does */
function exitOption(model: Depths, headers: Headers, header: string, twin: number | undefined, twinName: string) {
  const param = twin === undefined ? header : `sortie.${twinName}`;
  if (twin !== undefined) return { layer: checkedExit(model, twin, param), param };
  // Depths have no order of preference, so all values must agree.
  const layers = headerValues(headers, header, 'an exit of the model', (text) => checkedExit(model, text, header));
  const layer = agreed(header, layers);
  return layer === null ? null : { layer, param };
}

/** All names of a model, the first one first. */
export function namesOf({ name, aliases = [] }: Pick<ServedModel, 'name' | 'aliases'>): readonly string[] {
  return [name, ...aliases];
}

/** The parts of a model name in a request. */
export interface RequestedModel {
  /** One of the model's names, without a depth. */
  readonly name: string;
  /** The exit that the name pins, or null. */
  readonly exit: number | null;
}

/**
 * @param asked the name in the request; absent: the model's first name
 * @throws ApiError model_not_found for any other name
 */
export function requestedModel(model: ServedModel, asked: string | undefined): RequestedModel {
  const names = namesOf(model);
  const name = names.find((each) => (asked ?? model.name) === each || asked?.startsWith(`${each}:`));
  const exits = model.exits.map(({ layer }) => layer);
  if (name !== undefined) {
    const [, written] = /^:(\d{1,9})$/.exec(asked?.slice(name.length) ?? '') ?? [];
    const exit = written === undefined ? undefined : exitOf(model, Number(written));
    if (exit !== undefined || asked === undefined || asked === name) return { name, exit: exit ?? null };
  }
  const all = names.flatMap((each) => [each, ...exits.map((layer) => `${each}:${layer}`)]);
  throw new ApiError(
    'model_not_found',
    `This server has no model ${quoted(asked ?? '')}; it has ${all.join(', ')}.`,
    'model',
  );
}

/**
 * The exit that a model name pins, or null for a routed name.
 * @throws ApiError model_not_found for a name that the model does not have
 */
export function modelExit(model: ServedModel, asked: string | undefined): number | null {
  return requestedModel(model, asked).exit;
}

/** The operator's rules for depth. */
export interface DepthPolicy extends DepthLimits {
  /** Least share of right answers of an exit where the request states no depth; absent: any. */
  readonly minAccuracy?: number;
}

/** Bounds for every request. A null bound is the model's own. */
type DepthLimits = Pick<RequestPolicy, 'minExit' | 'maxExit'>;

/** The exits that a client may use, shallowest first. */
export function allowedExits({ exits }: Pick<ServedModel, 'exits'>, { minExit, maxExit }: DepthLimits): Exits {
  const layers = exits.map(({ layer }) => layer);
  return layers.filter((layer) => layer >= (minExit ?? layer) && layer <= (maxExit ?? layer));
}

/**
 * The shallowest allowed exit whose answers are of use, so that the scheduler buys no time with wrong ones. If all
 * allowed exits are below `--min-accuracy`, the shallowest one is used.
 */
function usefulExit(model: ServedModel, allowed: Exits, deepest: number, { minAccuracy = 0 }: DepthPolicy): number {
  const rightOf = (layer: number): number => model.exits.find((exit) => exit.layer === layer)?.quality.right ?? 1;
  const useful = allowed.find((layer) => layer <= deepest && rightOf(layer) >= minAccuracy);
  return useful ?? allowed.find((layer) => layer <= deepest) ?? deepest;
}

/**
 * @throws ApiError model_not_found, or invalid_value for a depth that is not an allowed exit or for contradicting
 * bounds
 */
export function requestDepth(
  model: ServedModel,
  name: string | undefined,
  headers: Headers,
  body: SortieRequest | undefined,
  policy: DepthPolicy,
): DepthBounds {
  const exits = model.exits.map(({ layer }) => layer);
  const allowed = allowedExits(model, policy);
  const floor = allowed[0] ?? 0;
  const ceiling = allowed.at(-1) ?? 0;
  const byName = modelExit(model, name);
  const exact = exitOption(model, headers, ASKED.exit, body?.exit_layer, 'exit_layer');
  const least = exitOption(model, headers, ASKED.minExit, body?.min_exit_layer, 'min_exit_layer');
  const most = exitOption(model, headers, ASKED.maxExit, body?.max_exit_layer, 'max_exit_layer');
  const pin = exact ?? (byName === null ? null : { layer: byName, param: 'model' });
  const deepestAsked = pin?.layer ?? Math.min(most?.layer ?? ceiling, ceiling);
  const shallowest =
    pin?.layer ?? (least === null ? usefulExit(model, allowed, deepestAsked, policy) : Math.max(least.layer, floor));
  const minExit = shallowest;
  const maxExit = pin?.layer ?? Math.min(most?.layer ?? ceiling, ceiling);
  const shallow = pin ?? most;
  const deep = pin ?? least;
  const outside =
    shallow !== null && shallow.layer < floor ? shallow : deep !== null && deep.layer > ceiling ? deep : null;
  if (outside !== null) {
    const rule = `This client may use the exits ${allowed.join(', ')}; the request asks for another depth.`;
    throw new ApiError('invalid_value', rule, outside.param, { exits: allowed });
  }
  const fits =
    (byName === null || exact === null || byName === exact.layer) &&
    (least?.layer ?? minExit) <= minExit &&
    (most?.layer ?? maxExit) >= maxExit &&
    minExit <= maxExit;
  if (fits) return { minExit, maxExit };
  throw new ApiError(
    'invalid_value',
    `${ASKED.minExit}, ${ASKED.exit} (or the depth in the model name) and ${ASKED.maxExit} contradict each other.`,
    (exact ?? most ?? least)?.param ?? 'model',
    { exits },
  );
}
