/**
 * The converter's view of a source model: an architecture, a tokenizer, and rows of named weights. All formats map
 * their tensor names to those of a Hugging Face Llama.
 */
import type { Architecture } from '../engine/model/architecture.js';
import type { Generation } from '../engine/model/manifest.js';

/** A weight on disk. Rows are read on demand: a tensor need not fit in memory as floats. */
export interface SourceTensor {
  readonly name: string;
  /** [N] or [N, K], row major. */
  readonly shape: readonly number[];
  /** Rows [start, start + count) as floats; a 1-D tensor is one row of N. Throws on NaN and infinity. */
  rows(start: number, count: number): Float32Array;
}

/** Weights by name. */
export interface Tensors {
  readonly names: readonly string[];
  /** Throws ConvertError for a name that the source lacks. */
  readonly tensor: (name: string) => SourceTensor;
}

/** Weights of a file. */
export interface TensorFile extends Tensors {
  readonly close: () => void;
}

/** Names of one decoder layer's weights: those of a Llama, then those of other architectures. */
export const LAYER = {
  attnNorm: 'input_layernorm.weight',
  q: 'self_attn.q_proj.weight',
  k: 'self_attn.k_proj.weight',
  v: 'self_attn.v_proj.weight',
  o: 'self_attn.o_proj.weight',
  qBias: 'self_attn.q_proj.bias',
  kBias: 'self_attn.k_proj.bias',
  vBias: 'self_attn.v_proj.bias',
  oBias: 'self_attn.o_proj.bias',
  mlpNorm: 'post_attention_layernorm.weight',
  gate: 'mlp.gate_proj.weight',
  up: 'mlp.up_proj.weight',
  down: 'mlp.down_proj.weight',
  qNorm: 'self_attn.q_norm.weight',
  kNorm: 'self_attn.k_norm.weight',
  /** Norms of the outputs of attention and MLP, in front of the residual sums. */
  attnOutNorm: 'attention_output_norm.weight',
  mlpOutNorm: 'mlp_output_norm.weight',
  /** Gate, projection and norm of the layer's own input of the token; the multiplier at the layer's end. */
  perLayerGate: 'per_layer_input_gate.weight',
  perLayerUp: 'per_layer_projection.weight',
  perLayerNorm: 'post_per_layer_input_norm.weight',
  layerScale: 'layer_scalar',
} as const;
export type Part = keyof typeof LAYER;
export const EMBEDDING = 'model.embed_tokens.weight';
export const FINAL_NORM = 'model.norm.weight';
export const HEAD = 'lm_head.weight';
/** The layers' own inputs: a table [V, L * P], a projection [L * P, H] of the embedding, and a norm [P] of that. */
export const PER_LAYER = {
  table: 'model.embed_tokens_per_layer.weight',
  projection: 'model.per_layer_model_projection.weight',
  norm: 'model.per_layer_projection_norm.weight',
} as const;
/** The norm of the states that a prompt exit's keys and values follow from. */
export const PROMPT_NORM = 'model.norm_swiftkv.weight';

/** The prefix of the tensor names of a trunk layer. */
export const trunkLayer = (index: number): string => `model.layers.${index}.`;

/** How a weight of the graphs follows from a tensor that a format stores, by name. */
export interface Recipe {
  /** Name of the stored tensor; in a layer, without the layer's prefix. */
  readonly stored: string;
  /** The rows of one part, in a tensor that packs several parts into `of` rows. */
  readonly rows?: { readonly start: number; readonly count: number; readonly of: number };
  /** Head size, if the rows of each head alternate between the two rotary halves (llama.cpp). */
  readonly alternate?: number;
  readonly plus?: number;
  readonly factor?: number;
}

export interface Recipes {
  /** Prefix of a layer's stored tensors, by index. */
  readonly prefix: (index: number) => string;
  readonly layer: ReadonlyMap<Part, Recipe>;
  readonly embedding: Recipe;
  readonly norm: Recipe;
  readonly head: Recipe;
  /** Of the layers' own inputs. */
  readonly perLayer: Readonly<Record<keyof typeof PER_LAYER, Recipe>>;
}

/** Text files of a model folder, and the token ids that the engine needs. */
export interface SourceTokenizer {
  /** Content of tokenizer.json for @huggingface/tokenizers. */
  json: string;
  chatTemplate: string | null;
  bosToken: number | null;
  eosTokens: number[];
}

/** A recommended sampling value. */
export interface SourceSampling {
  readonly field: keyof Generation;
  /** File and key, for warnings. */
  readonly origin: string;
  readonly value: unknown;
}

/** The weights of a prompt exit. A layer's names are those of the trunk. */
export interface PromptSource extends Tensors {
  /** Layers that prompt tokens run. */
  readonly exit: number;
  /** Neighbouring deeper layers that share keys and values, counted from the exit. */
  readonly group: number;
}

/** Its names leave out tensors that follow from the architecture. */
export interface ModelSource extends TensorFile {
  readonly architecture: Architecture;
  /** How the tensors of an exit block are read, which are always those of Hugging Face. */
  readonly blocks: Pick<Recipes, 'layer' | 'norm'>;
  /** Exit blocks in the source itself, by the names of exits.ts; null for none. */
  readonly ownBlocks: (TensorFile & { readonly file: string }) | null;
  /** The model's prompt exit; null without one. */
  readonly prompt: PromptSource | null;
  /** Weights [H] of a looped model's gate and then its bias; null for a model without one. */
  readonly gate: Float32Array | null;
  /** Published right answers by loop (Family.loopAccuracy); null for none. */
  readonly loopAccuracy: readonly number[] | null;
  readonly tokenizer: SourceTokenizer;
  /** SPDX id, or "unknown". */
  readonly licence: string;
  readonly origin: string;
  /** Parts of its weights that the converter leaves out; absent: none. */
  readonly leftOut?: readonly string[];
  /** Sampling values that the source recommends, each with the name that the source gives it. */
  readonly sampling: readonly SourceSampling[];
  /** Exits that the source itself declares. */
  readonly exits: readonly number[] | null;
}
