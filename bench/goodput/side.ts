/** The sides of bench:goodput: the server of each side, and what its requests state. */
import type { Manifest } from '../../src/engine/model/manifest.js';
import { type Budget, budgetHeaders } from '../loadgen/budgets.js';
import { pressed } from '../everyday/requests.js';

export interface Side {
  readonly name: string;
  /** Routed sides choose their exits. Fixed ones have one, and the peer has none. */
  readonly kind: 'routed' | 'fixed' | 'peer';
  readonly headers: (budget: Budget) => Record<string, string>;
  /** Further fields of a request. */
  readonly fields: (budget: Budget) => Readonly<Record<string, unknown>>;
  /** Text behind every question; empty for none. */
  readonly hint: string;
  /** The client gives a request up at the end of its budget. */
  readonly aborts?: boolean;
}

/** The model as its sides need it: exit layers, shallowest first, and the ids that end an answer. */
export interface SidedModel {
  readonly name: string;
  readonly layers: readonly number[];
  readonly endTokens: readonly number[];
  /** Layer of the prompt exit; null for a model with one depth of prompts. */
  readonly promptExit: number | null;
  /** Share of full depth's right answers, by exit layer. An exit without a measurement has none. */
  readonly accuracy: ReadonlyMap<string, number>;
}

/** The key of the prompt exit in the accuracies of a model. */
export const BEHIND = 'behind';

export function modelOf({ name, exits, eosTokens, prompt }: Manifest): SidedModel {
  const accuracy = new Map<string, number>();
  for (const { layer, quality } of exits) if (quality.right !== undefined) accuracy.set(String(layer), quality.right);
  if (prompt?.quality.right !== undefined) accuracy.set(BEHIND, prompt.quality.right);
  const promptExit = prompt?.block?.prompt?.exit ?? null;
  return { name, layers: exits.map(({ layer }) => layer), endTokens: eosTokens, promptExit, accuracy };
}

/** The accuracy by which `--expected` scores answers. @throws Error if an exit of the model has none */
export function expectedAccuracy({ name, layers, accuracy }: SidedModel): ReadonlyMap<string, number> {
  const lacking = layers.filter((layer) => !accuracy.has(String(layer)));
  if (lacking.length === 0) return accuracy;
  throw new Error(
    '--expected must have a model whose manifest states "right" in the quality of every exit, ' +
      `got "${name}" without it at exit ${lacking.join(', ')}`,
  );
}

/** The header by which the server asks for short answers where it needs them. */
const AUTO = { 'x-budget-hint': 'auto' };

/** The words that ask for a short answer. */
const HINT = ' Answer in one short sentence.';

const ROUTED = /^routed(?: (?<onMiss>land|continue|truncate|reject))?$/;
const LANDS = /^(?<verb>lands|truncates|rejects) (?<layer>\d+)(?: behind (?<prompt>\d+))?$/;
/** The headers of the sides at one exit, by their verb. */
const VERBS: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  lands: {},
  truncates: { 'x-budget-on-miss': 'truncate' },
  rejects: { 'x-budget-on-miss': 'reject' },
};
const FIXED = /^fixed (?<layer>\d+)(?: behind (?<prompt>\d+))?(?:\+(?<pressure>\d+(?:\.\d+)?))?$/;
const PEER = /^llama-server(?:\+(?<pressure>\d+(?:\.\d+)?)|(?<limit> limit))?$/;
type Groups = Readonly<Record<string, string | undefined>>;
/** Whether a side is the server of `--url`. */
export const OTHER = /^url(?<aborts> abort)?(?: hint)?$/;

/**
 * A side by its name, with ` hint` behind it for a text that asks for a short answer, or ` auto` where the server is to
 * decide:
 * - `routed`, `routed truncate` (X-Budget-On-Miss): the request states its budget.
 * - `lands 30`, `truncates 30`, `rejects 30`: the same at one exit.
 * - `fixed 30`, `fixed 30+4`: no budget; a bias of 4 on the end tokens.
 * - ` behind 18` after an exit: its prompt leaves at the prompt exit. Otherwise it has full depth.
 * - `url`, `url abort`: the server of `--url`, without and with a client that gives up at the end of the budget.
 * - `llama-server+4`, `llama-server limit`: the budget as its limit of the time of an answer (`t_max_predict_ms`).
 * @throws Error that names the rule and the value
 */
export function sideOf(text: string, { layers, endTokens, promptExit }: SidedModel): Side {
  const name = text.trim();
  const bare = name.replace(/ (?:hint|auto)$/, '');
  const hint = name.endsWith(' hint') ? HINT : '';
  const auto = name.endsWith(' auto') ? AUTO : {};
  const exitOf = ({ layer, prompt }: Groups = {}): Record<string, string> | null => {
    if (layer === undefined || !layers.includes(Number(layer))) return null;
    if (prompt === undefined) return { 'x-exit-layer': layer };
    const isOffered = Number(prompt) === promptExit && Number(layer) === layers.at(-1);
    return isOffered ? { 'x-exit-layer': layer, 'x-prompt-depth': prompt } : null;
  };
  const noFields = () => ({});
  const routed = ROUTED.exec(bare);
  if (routed !== null) {
    const { onMiss } = routed.groups ?? {};
    const miss = onMiss === undefined ? {} : { 'x-budget-on-miss': onMiss };
    return {
      name,
      kind: 'routed',
      hint,
      fields: noFields,
      headers: (budget) => ({ ...budgetHeaders(budget), ...miss, ...auto }),
    };
  }
  const landing = LANDS.exec(bare)?.groups;
  const lands = exitOf(landing);
  if (lands !== null) {
    const miss = VERBS[landing?.verb ?? ''];
    const headers = (budget: Budget) => ({ ...budgetHeaders(budget), ...miss, ...lands, ...auto });
    return { name, kind: 'fixed', hint, fields: noFields, headers };
  }
  // Without a budget there is nothing to ask for.
  const settings = name.endsWith(' auto') ? '' : bare;
  const setting = FIXED.exec(settings)?.groups;
  const fixed = exitOf(setting);
  if (fixed !== null) {
    const fields = () => pressed(endTokens, Number(setting?.pressure ?? '0'));
    return { name, kind: 'fixed', hint, fields, headers: () => fixed };
  }
  const other = OTHER.exec(settings);
  if (other !== null)
    return {
      name,
      kind: 'peer',
      hint,
      fields: noFields,
      headers: noFields,
      aborts: other.groups?.aborts !== undefined,
    };
  const peer = PEER.exec(settings);
  if (peer !== null) {
    const { limit, pressure: bias = '0' } = peer.groups ?? {};
    const fields = (budget: Budget) =>
      limit === undefined ? pressed(endTokens, Number(bias)) : { t_max_predict_ms: budget.totalMs };
    return { name, kind: 'peer', hint, fields, headers: () => ({}) };
  }
  throw new Error(
    `--sides must be "routed [ON_MISS]", "lands EXIT", "truncates EXIT", "rejects EXIT" or "fixed EXIT[+BIAS]" with an exit of ` +
      `${layers.join(', ')}${promptExit === null ? '' : `, the last one with or without " behind ${promptExit}"`}, or "llama-server[+BIAS]", "llama-server limit", "url" or "url abort", each with or without ` +
      `" hint", and the first two with or without " auto", separated by commas, got "${name}"`,
  );
}

/** Names of all sides: routed, every exit that lands, every exit with every pressure, and the peer. */
export function allSides(layers: readonly number[], pressures: readonly number[], withPeer: boolean): string[] {
  const each = (name: string): string[] => pressures.map((pressure) => (pressure === 0 ? name : `${name}+${pressure}`));
  const deepestFirst = layers.toReversed();
  return [
    'routed',
    ...deepestFirst.map((layer) => `lands ${layer}`),
    ...deepestFirst.flatMap((layer) => each(`fixed ${layer}`)),
    ...(withPeer ? [...each('llama-server'), 'llama-server limit'] : []),
  ];
}
