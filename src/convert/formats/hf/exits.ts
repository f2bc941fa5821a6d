/** Exits that classes and names of published checkpoints state: Balcony, LayerSkip, and the prompt exit of SwiftKV. */
import path from 'node:path';
import type { Architecture } from '../../../engine/model/architecture.js';
import type { Fields } from '../../architectures/fields.js';
import { ConvertError } from '../../conversion-error.js';
import { exitLayer, exitNorm } from '../../exits.js';
import { PROMPT_NORM, type PromptSource, type Tensors } from '../../source.js';
import { readOptionalText } from './files.js';

const BALCONY = /^model\.exit_modules\.(\d+)\.(\d+)\.(.+)$/;
const SWIFTKV = /^(model\.layers\.\d+\.self_attn\.[qkv]_(?:proj|norm))_swiftkv(\..+)$/;

/** Exits that a folder of LayerSkip gets without `--exits`. */
const LAYERSKIP_EXITS = 4;

export interface BalconyExits {
  /** Trunk layers in front of the exits, and the last layer. */
  readonly exits: readonly number[];
  readonly blocks: Tensors;
}

/**
 * The exits of a Balcony checkpoint (arXiv 2503.05005): its class has a decoder layer and a norm for each exit, in the
 * same files as the trunk. They get the names of exit blocks.
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
    const [, exit, module, rest = ''] = BALCONY.exec(name) ?? [];
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
  return BALCONY.test(name);
}

/**
 * The exits of a LayerSkip checkpoint (arXiv 2404.16710): a plain Llama whose layers were all trained as exits with the
 * shared norm and head. No field of its config says so, but its names do.
 * @param name `_name_or_path` of the config
 * @returns every quarter of the layers if the config, the model card or the hub's folder names LayerSkip; else null
 */
export function layerSkipExits(folder: string, name: unknown, layers: number): number[] | null {
  const names = [
    String(name),
    // The cache of the hub has one folder for each repository.
    /models--[^/]*/.exec(path.resolve(folder))?.[0] ?? '',
    /^#+ .*$/m.exec(readOptionalText(folder, 'README.md') ?? '')?.[0] ?? '',
  ];
  if (!names.some((each) => /layer-?skip/i.test(each))) return null;
  const exits = Array.from({ length: LAYERSKIP_EXITS }, (_, i) => Math.ceil(((i + 1) * layers) / LAYERSKIP_EXITS));
  return [...new Set(exits)];
}

/** Whether a config names a class of SwiftKV (Snowflake's ArcticTraining). */
export function isSwiftKv(architectures: unknown, modelType: unknown): boolean {
  const name = Array.isArray(architectures) ? String(architectures[0]) : String(modelType);
  return name.endsWith('SwiftKVForCausalLM') || name.endsWith('_swiftkv');
}

/** Whether a tensor belongs to the prompt exit. */
export function isPromptTensor(name: string): boolean {
  return SWIFTKV.test(name) || name === PROMPT_NORM;
}

/**
 * The prompt exit of a folder with a class of SwiftKV. Deeper layers have `q_proj_swiftkv`, and the first of each group
 * `k_proj_swiftkv` and `v_proj_swiftkv`. Qwen3 adds norms by head.
 * @param raw all tensors of the folder
 * @returns null for a model whose prompts run all layers
 * @throws ConvertError unless the fields state a prompt exit
 */
export function swiftKvExit(config: Fields, raw: Tensors, { layers }: Architecture): PromptSource | null {
  const whole = (key: string, fallback?: number): number => {
    const value = config.number(key, fallback);
    if (Number.isInteger(value) && value >= 1 && value <= layers) return value;
    throw config.fault(key, `an integer from 1 to ${layers}`);
  };
  if (Object.keys(config.get('kv_sharing_map') ?? {}).length > 0)
    throw config.fault('kv_sharing_map', 'absent or empty (layers share keys by groups alone)');
  if (config.get('quantization_config') !== undefined)
    throw config.fault('quantization_config', 'absent (FP8 is not read; take the BF16 weights)');
  const exit = whole('num_key_value_layers');
  const group = whole('key_value_group_size', 1);
  if (exit === layers) return null;
  const own = raw.names.filter(isPromptTensor);
  const stored = new Map(own.map((name) => [name.replace(SWIFTKV, '$1$2'), name]));
  return {
    exit,
    group,
    names: [...stored.keys()],
    tensor(name) {
      const found = stored.get(name);
      if (found === undefined) throw new ConvertError(`the source has no tensor for ${name} behind its prompt exit`);
      return raw.tensor(found);
    },
  };
}
