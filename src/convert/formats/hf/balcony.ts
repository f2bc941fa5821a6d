/**
 * The exits of a Balcony checkpoint (arXiv 2503.05005): its class has a decoder layer and a norm for each exit, in the
 * same files as the trunk. This module gives them the names of exit blocks.
 */
import type { Fields } from '../../architectures/fields.js';
import { exitLayer, exitNorm } from '../../exit-blocks.js';
import type { Tensors } from '../../tensors.js';

const MODULE = /^model\.exit_modules\.(\d+)\.(\d+)\.(.+)$/;

export interface BalconyExits {
  /** Trunk layers in front of the exits, and the last layer. */
  readonly exits: readonly number[];
  readonly blocks: Tensors;
}

/**
 * @returns null for a config without exits
 * @throws ConvertError unless every exit has a whole decoder layer or a norm alone, and the shared head
 */
export function balconyExits(config: Fields, stored: Tensors, layers: number): BalconyExits | null {
  const indices = config.numbers('exit_layer_indices');
  if (indices === null) return null;
  for (const part of ['exit_mlp', 'exit_attention'])
    if (config.flag(part)) throw config.fault(part, 'false (an exit needs a whole layer)');
  if (!config.flag('tie_exit_lm_head', config.flag('tie_word_embeddings')))
    throw config.fault('tie_exit_lm_head', 'true (all exits share one head)');
  const hasLayer = config.flag('exit_decoder_layer');
  const names = new Map<string, string>();
  for (const name of stored.names) {
    const [, exit, module, rest = ''] = MODULE.exec(name) ?? [];
    const layer = indices[Number(exit)];
    if (layer === undefined) continue;
    const isLayer = hasLayer && module === '0';
    names.set(isLayer ? exitLayer(layer, 0) + rest : exitNorm(layer), name);
  }
  return {
    exits: [...indices, layers],
    blocks: { names: [...names.keys()], tensor: (name) => stored.tensor(names.get(name) ?? name) },
  };
}

/** Whether a tensor belongs to an exit of Balcony. */
export function isBalcony(name: string): boolean {
  return MODULE.test(name);
}
