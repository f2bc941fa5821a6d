/** Tiny random models with a prompt exit: the classes of SwiftKV, with the trunk's own projections as well. */
import path from 'node:path';
import type { PromptShape } from './reference.js';
import { LAYER_SHAPES, random, SHAPE, weight, writeFolder, type Weight, type Weights } from './tiny.js';

const { hidden, heads, kvHeads, headDim, vocab } = SHAPE;

export type SwiftClass = 'Llama' | 'Qwen2' | 'Qwen3';

export interface PromptModel {
  readonly shape: PromptShape;
  readonly weights: Weights;
  /** Differences of config.json from a tiny Llama's. */
  readonly config: Record<string, unknown>;
}

export interface PromptModelShape {
  readonly layers: number;
  readonly exit: number;
  readonly group: number;
  readonly tied?: boolean;
}

/** A model with random weights of a class of SwiftKV. */
export function promptModel(name: SwiftClass, { layers, exit, group, tied = true }: PromptModelShape): PromptModel {
  const next = random(layers * 100 + exit * 10 + group);
  /** Around 1: keys behind the exit then differ from the trunk's as much as those of a trained model. */
  const scales = (size: number): Weight => {
    const { shape, data } = weight(next, [size]);
    return { shape, data: data.map((value) => value + 1) };
  };
  const weights: Weights = new Map([
    ['model.embed_tokens.weight', weight(next, [vocab, hidden])],
    ['model.norm.weight', scales(hidden)],
    ['model.norm_swiftkv.weight', scales(hidden)],
  ]);
  if (!tied) weights.set('lm_head.weight', weight(next, [vocab, hidden]));
  const width = { q: heads * headDim, k: kvHeads * headDim, v: kvHeads * headDim };
  const attention = (layer: number, part: 'q' | 'k' | 'v', suffix: string): void => {
    const stored = (kind: string): string => `model.layers.${layer}.self_attn.${part}_${kind}${suffix}`;
    weights.set(`${stored('proj')}.weight`, weight(next, [width[part], hidden]));
    if (name === 'Qwen2') weights.set(`${stored('proj')}.bias`, weight(next, [width[part]]));
    if (name === 'Qwen3' && part !== 'v') weights.set(`${stored('norm')}.weight`, scales(headDim));
  };
  for (let layer = 0; layer < layers; layer++) {
    for (const [part, shape] of LAYER_SHAPES)
      if (!/[qkv]_proj/.test(part))
        weights.set(`model.layers.${layer}.${part}`, shape.length === 1 ? scales(hidden) : weight(next, shape));
    for (const part of ['q', 'k', 'v'] as const) attention(layer, part, '');
    if (layer < exit) continue;
    attention(layer, 'q', '_swiftkv');
    if ((layer - exit) % group !== 0) continue;
    attention(layer, 'k', '_swiftkv');
    attention(layer, 'v', '_swiftkv');
  }
  return {
    shape: { layers, heads, kvHeads, headDim, theta: 10000, eps: 1e-5, exit, group },
    weights,
    config: {
      architectures: [`${name}SwiftKVForCausalLM`],
      model_type: `${name.toLowerCase()}_swiftkv`,
      num_hidden_layers: layers,
      head_dim: headDim,
      tie_word_embeddings: tied,
      swiftkv: true,
      num_key_value_layers: exit,
      key_value_group_size: group,
    },
  };
}

/** Writes the model as a folder; returns its path. */
export function writePromptModel(
  dir: string,
  { weights, config }: PromptModel,
  changes: Record<string, unknown> = {},
): string {
  return writeFolder(path.join(dir, 'hf'), weights, { config: { ...config, ...changes } });
}
