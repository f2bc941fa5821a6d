/** The sides of bench:goodput: the server of each side, and what its requests state. */
import type { Manifest } from '../../src/model/manifest.js';
import { type Budget, budgetHeaders } from '../../src/loadgen/budgets.js';
import { pressed } from '../everyday/requests.js';

export interface Side {
  readonly name: string;
  /** Routed sides have a budget. Fixed ones have an exit, and the peer has neither. */
  readonly kind: 'routed' | 'fixed' | 'peer';
  readonly headers: (budget: Budget) => Record<string, string>;
  /** Further fields of a request. */
  readonly fields: Readonly<Record<string, unknown>>;
}

/** The model as its sides need it: exit layers, shallowest first, and the ids that end an answer. */
export interface SidedModel {
  readonly name: string;
  readonly layers: readonly number[];
  readonly endTokens: readonly number[];
}

export function modelOf({ name, exits, eosTokens }: Manifest): SidedModel {
  return { name, layers: exits.map(({ layer }) => layer), endTokens: eosTokens };
}

const ROUTED = /^routed(?: (?<onMiss>[a-z]+))?$/;
const FIXED = /^fixed (?<layer>\d+)(?:\+(?<pressure>\d+(?:\.\d+)?))?$/;
const PEER = /^llama-server(?:\+(?<pressure>\d+(?:\.\d+)?))?$/;

/**
 * A side by its name: `routed`, `routed truncate` (X-Budget-On-Miss), `fixed 30`, `fixed 30+4` (a bias of 4 on the end
 * tokens) or `llama-server+4`.
 * @throws Error that names the rule and the value
 */
export function sideOf(text: string, { layers, endTokens }: SidedModel): Side {
  const name = text.trim();
  const routed = ROUTED.exec(name);
  if (routed !== null) {
    const { onMiss } = routed.groups ?? {};
    const miss = onMiss === undefined ? {} : { 'x-budget-on-miss': onMiss };
    return {
      ...{ name, kind: 'routed', fields: {} },
      headers: (budget) => ({ ...budgetHeaders(budget), ...miss }),
    };
  }
  const { layer, pressure = '0' } = FIXED.exec(name)?.groups ?? {};
  if (layer !== undefined && layers.includes(Number(layer))) {
    const fields = pressed(endTokens, Number(pressure));
    return { name, kind: 'fixed', headers: () => ({ 'x-exit-layer': layer }), fields };
  }
  const peer = PEER.exec(name);
  if (peer !== null) {
    const fields = pressed(endTokens, Number(peer.groups?.pressure ?? 0));
    return { name, kind: 'peer', headers: () => ({}), fields };
  }
  throw new Error(
    `--sides must be "routed [ON_MISS]", "fixed EXIT[+BIAS]" with an exit of ${layers.join(', ')}, or ` +
      `"llama-server[+BIAS]", separated by commas, got "${name}"`,
  );
}

/** Names of all sides: routed, every exit with every pressure, and the peer with every pressure. */
export function allSides(layers: readonly number[], pressures: readonly number[], withPeer: boolean): string[] {
  const each = (name: string): string[] => pressures.map((pressure) => (pressure === 0 ? name : `${name}+${pressure}`));
  const fixed = layers.toReversed().flatMap((layer) => each(`fixed ${layer}`));
  return ['routed', ...fixed, ...(withPeer ? each('llama-server') : [])];
}
