/** The factors that smooth the inputs of a layer; null leaves an input unchanged. */

/** Inputs of linear layers: attn_in of q, k and v; attn_out of o; mlp_in of gate and up; mlp_out of down. */
export type InputName = 'attn_in' | 'attn_out' | 'mlp_in' | 'mlp_out';

export interface LayerFactors extends Readonly<Record<InputName, Float32Array | null>> {
  /** By channel of the values [kv_heads * head_dim]; attn_out [heads * head_dim] repeats them for each query head. */
  readonly values: Float32Array | null;
}

export const NO_SMOOTHING: LayerFactors = { attn_in: null, attn_out: null, values: null, mlp_in: null, mlp_out: null };
