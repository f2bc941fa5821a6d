/**
 * The factors by which a layer's inputs are smoothed; null leaves an input as it is.
 *
 * Knows: the inputs' names. Must not know: how factors are chosen or folded in.
 */

/** Inputs of linear layers: of q, k and v; of o; of gate and up; of down. */
export type InputName = 'attn_in' | 'attn_out' | 'mlp_in' | 'mlp_out';

export interface LayerFactors extends Readonly<Record<InputName, Float32Array | null>> {
  /** By channel of the values [kv_heads * head_dim]: what attn_out [heads * head_dim] repeats for each query head. */
  readonly values: Float32Array | null;
}

export const NO_SMOOTHING: LayerFactors = { attn_in: null, attn_out: null, values: null, mlp_in: null, mlp_out: null };
