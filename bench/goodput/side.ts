/** The sides of bench:goodput: the server of each side, and what its requests state. */
import type { Manifest } from '../../src/engine/model/manifest.js';
import { type Budget, budgetHeaders } from '../loadgen/budgets.js';

export interface Side {
  readonly name: string;
  /** Routed sides choose their exits. Fixed ones have one, and a peer has none. */
  readonly kind: 'routed' | 'fixed' | 'peer';
  readonly headers: (budget: Budget) => Readonly<Record<string, string>>;
  /** Further fields of a request. */
  readonly fields: (budget: Budget) => Readonly<Record<string, unknown>>;
  /** The client gives a request up at the end of its budget. */
  readonly aborts: boolean;
  /** Whether the server is that of `--url`. */
  readonly isOther: boolean;
}

/** The model as its sides need it. */
export interface SidedModel {
  readonly name: string;
  /** Exit layers, shallowest first. */
  readonly layers: readonly number[];
  /** Share of full depth's right answers, by exit layer. An exit without a measurement has none. */
  readonly accuracy: ReadonlyMap<number, number>;
}

export function modelOf({ name, exits }: Manifest): SidedModel {
  const measured = exits.flatMap(({ layer, quality: { accuracy } }) =>
    accuracy === undefined ? [] : [[layer, accuracy] as const],
  );
  return { name, layers: exits.map(({ layer }) => layer), accuracy: new Map(measured) };
}

/** The accuracy by which `--expected` scores answers. @throws Error if an exit of the model has none */
export function expectedAccuracy({ name, layers, accuracy }: SidedModel): SidedModel['accuracy'] {
  const lacking = layers.filter((layer) => !accuracy.has(layer));
  if (lacking.length === 0) return accuracy;
  throw new Error(
    '--expected must have a model whose manifest states "accuracy" in the quality of every exit, ' +
      `got "${name}" without it at exit ${lacking.join(', ')}`,
  );
}

const SIDE =
  /^(?:routed(?: (?<onMiss>land|continue|truncate|reject))?|(?<verb>lands|truncates|rejects|fixed) (?<layer>\d+)|(?<peer>llama-server|url)(?: (?<end>limit|abort))?)$/;

/** X-Budget-On-Miss by the verb of a side with one exit. */
const ON_MISS: Readonly<Record<string, string>> = { truncates: 'truncate', rejects: 'reject' };

/**
 * A side by its name:
 * - `routed`, `routed truncate` (X-Budget-On-Miss): the request states its budget.
 * - `lands 30`, `truncates 30`, `rejects 30`: the same at one exit. `fixed 30`: no budget.
 * - `llama-server`, and `url` for the server of `--url`. With ` abort` the client gives up at the end of the budget. With
 *   ` limit` the budget is llama-server's limit of the time of an answer.
 * @throws Error that names the rule and the value
 */
export function sideOf(text: string, { layers }: SidedModel): Side {
  const name = text.trim();
  const match = SIDE.exec(name);
  const { verb, layer, peer, end, onMiss = ON_MISS[verb ?? ''] } = match?.groups ?? {};
  if (match === null || (layer !== undefined && !layers.includes(Number(layer))))
    throw new Error(
      `--sides must be "routed [ON_MISS]", "lands EXIT", "truncates EXIT", "rejects EXIT" or "fixed EXIT" with an exit of ` +
        `${layers.join(', ')}, or "llama-server" or "url" with or without " abort" or " limit", separated by commas, got "${name}"`,
    );
  const isTold = peer === undefined && verb !== 'fixed';
  const stated = {
    ...(onMiss !== undefined && { 'x-budget-on-miss': onMiss }),
    ...(layer !== undefined && { 'x-exit-layer': layer }),
  };
  return {
    name,
    kind: peer !== undefined ? 'peer' : layer !== undefined ? 'fixed' : 'routed',
    headers: (budget) => (isTold ? { ...budgetHeaders(budget), ...stated } : stated),
    fields: ({ totalMs }) => (end === 'limit' ? { t_max_predict_ms: totalMs } : {}),
    aborts: end === 'abort',
    isOther: peer === 'url',
  };
}

/** Names of all sides: routed, every exit that lands and without a budget, and the peer. */
export function allSides(layers: readonly number[], withPeer: boolean): string[] {
  const deepestFirst = layers.toReversed();
  const fixed = ['lands', 'fixed'].flatMap((verb) => deepestFirst.map((layer) => `${verb} ${layer}`));
  return ['routed', ...fixed, ...(withPeer ? ['llama-server', 'llama-server limit'] : [])];
}
