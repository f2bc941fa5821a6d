/**
 * Factors that smooth the channels of an input before its rows are rounded to bytes (SmoothQuant, arXiv 2211.10438).
 * The input is divided by the factors, and the columns of the weights that read it are multiplied.
 */

/**
 * Share of a channel's size that moves to the weights, 0 to 1. Mean loss in nats over the exits of the embedded model:
 * .023 at .5, .025 at .4, .023 at .6, .030 at .75.
 */
const EXPONENT = 0.5;

/**
 * Smoothing applies from this imbalance on (see `imbalance`). Below it, the step of a row's bytes is already small
 * against most channels: on the embedded model, smoothing the remaining inputs gained nothing, mean over the exits.
 */
const IMBALANCE = 4;

/** Largest root mean square of a channel over that of all channels; 1 if all channels are alike. */
export function imbalance(squares: Float32Array): number {
  let sum = 0;
  let most = 0;
  for (const value of squares) {
    sum += value;
    most = Math.max(most, value);
  }
  return sum > 0 ? Math.sqrt((most * squares.length) / sum) : 1;
}

/**
 * Factors by channel: rms^a / max^(1 - a), over the geometric mean of all. `max` is the largest magnitude of the
 * weights' column. Null for an input that is balanced enough. Powers of two would keep every bit of float kernels, but
 * they are coarse: .002 nats more on the embedded model.
 * @param squares means or sums of the squares of the input's channels
 * @param columnMaxima largest magnitude of each column of the weights that read the input
 */
export function smoothingFactors(squares: Float32Array, columnMaxima: Float32Array): Float32Array | null {
  if (imbalance(squares) < IMBALANCE) return null;
  const logs = Float64Array.from(squares, (square, i) => {
    const column = columnMaxima[i] ?? 0;
    // A channel that is always zero, or that no weight reads, needs no factor.
    return square > 0 && column > 0 ? (EXPONENT / 2) * Math.log2(square) - (1 - EXPONENT) * Math.log2(column) : NaN;
  });
  const known = logs.filter((value) => !Number.isNaN(value));
  const mean = known.reduce((a, b) => a + b, 0) / known.length;
  return Float32Array.from(logs, (value) => (Number.isNaN(value) ? 1 : 2 ** (value - mean)));
}

/** Inputs of linear layers: attn_in of q, k and v; attn_out of o; mlp_in of gate and up; mlp_out of down. */
export type InputName = 'attn_in' | 'attn_out' | 'mlp_in' | 'mlp_out';

/** The factors that smooth the inputs of a layer; null leaves an input unchanged. */
export interface LayerFactors extends Readonly<Record<InputName, Float32Array | null>> {
  /** By channel of the values [kv_heads * head_dim]; attn_out [heads * head_dim] repeats them for each query head. */
  readonly values: Float32Array | null;
}

export const NO_SMOOTHING: LayerFactors = { attn_in: null, attn_out: null, values: null, mlp_in: null, mlp_out: null };
