/**
 * The converter's view of a source model: an architecture, a tokenizer, and rows of named weights. All formats map
 * their tensor names to those of Hugging Face.
 */
import type { Architecture, Generation } from '../model/manifest.js';

/** A weight on disk. Rows are read on demand: a tensor need not fit in memory as floats. */
export interface SourceTensor {
  readonly name: string;
  /** [N] or [N, K], row major. */
  readonly shape: readonly number[];
  /** Rows [start, start + count) as floats; a 1-D tensor is one row of N. Throws on NaN and infinity. */
  rows(start: number, count: number): Float32Array;
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

export interface ModelSource {
  readonly architecture: Architecture;
  readonly tokenizer: SourceTokenizer;
  readonly name: string;
  /** SPDX id, or "unknown". */
  readonly licence: string;
  readonly origin: string;
  /** Sampling values that the source recommends, each with the name that the source gives it. */
  readonly sampling: readonly SourceSampling[];
  /** Exits that the source itself declares. */
  readonly exits: readonly number[] | null;
  /** All weights of the source, except tensors that follow from the architecture. */
  readonly names: readonly string[];
  /** Throws ConvertError missing_tensor. */
  tensor(name: string): SourceTensor;
  has(name: string): boolean;
  close(): void;
}

/** Names of one decoder layer's weights. */
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
} as const;
export const EMBEDDING = 'model.embed_tokens.weight';
export const FINAL_NORM = 'model.norm.weight';
export const HEAD = 'lm_head.weight';

/** The prefix of the tensor names of a trunk layer. */
export const trunkLayer = (index: number): string => `model.layers.${index}.`;
