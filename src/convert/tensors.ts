/** Weights by name: those that the graphs read have the names of a Hugging Face Llama. */

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
  /** Throws ConvertError. */
  readonly tensor: (name: string) => SourceTensor;
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
} as const;
export type Part = keyof typeof LAYER;
export const EMBEDDING = 'model.embed_tokens.weight';
export const FINAL_NORM = 'model.norm.weight';
export const HEAD = 'lm_head.weight';
/** The norm of the states that a prompt exit's keys and values follow from. */
export const PROMPT_NORM = 'model.norm_swiftkv.weight';

/** The prefix of the tensor names of a trunk layer. */
export const trunkLayer = (index: number): string => `model.layers.${index}.`;
