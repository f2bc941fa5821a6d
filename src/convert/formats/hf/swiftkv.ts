/**
 * The prompt exit of a folder with a class of SwiftKV (Snowflake's ArcticTraining). Deeper layers have
 * `q_proj_swiftkv`, and the first of each group `k_proj_swiftkv` and `v_proj_swiftkv`. Qwen3 adds norms by head.
 */
import type { Architecture } from '../../../engine/model/architecture.js';
import type { Fields } from '../../architectures/fields.js';
import { ConvertError } from '../../conversion-error.js';
import type { PromptSource } from '../../source.js';
import { PROMPT_NORM, type Tensors } from '../../tensors.js';

const OWN = /^(model\.layers\.\d+\.self_attn\.[qkv]_(?:proj|norm))_swiftkv(\..+)$/;

/** Whether a config names a class of SwiftKV. */
export function isSwiftKv(architectures: unknown, modelType: unknown): boolean {
  const name = Array.isArray(architectures) ? String(architectures[0]) : String(modelType);
  return name.endsWith('SwiftKVForCausalLM') || name.endsWith('_swiftkv');
}

/** Whether a tensor belongs to the prompt exit. */
export function isPromptTensor(name: string): boolean {
  return OWN.test(name) || name === PROMPT_NORM;
}

/**
 * @param raw all tensors of the folder
 * @returns null for a model whose prompts run all layers
 * @throws ConvertError unless the fields state a prompt exit
 */
export function swiftKvExit(config: Fields, raw: Tensors, { layers }: Architecture): PromptSource | null {
  const whole = (key: string, most: number, fallback?: number): number => {
    const value = config.number(key, fallback);
    if (Number.isInteger(value) && value >= 1 && value <= most) return value;
    throw config.fault(key, `an integer from 1 to ${most}`);
  };
  if (Object.keys(config.get('kv_sharing_map') ?? {}).length > 0)
    throw config.fault('kv_sharing_map', 'absent or empty (layers share keys by groups alone)');
  if (config.get('quantization_config') !== undefined)
    throw config.fault('quantization_config', 'absent (FP8 is not read; take the BF16 weights)');
  const exit = whole('num_key_value_layers', layers);
  const group = whole('key_value_group_size', layers, 1);
  if (exit === layers) return null;
  const stored = new Map(
    raw.names.flatMap((name) => {
      if (!isPromptTensor(name)) return [];
      return [[name.replace(OWN, '$1$2'), name] as const];
    }),
  );
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
