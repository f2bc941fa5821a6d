/**
 * Factors that smooth an input's channels before its rows are rounded to bytes (SmoothQuant, arXiv 2211.10438): the input
 * is divided by them, the columns of the weights that read it are multiplied.
 *
 * Knows: arithmetic. Must not know: tensors, where the factors are folded in.
 */

/**
 * How much of a channel's size goes over to the weights: 0 nothing, 1 all. On the embedded model .5 cost .023 nats, mean
 * over the exits, .4 .025, .6 .023 and .75 .030.
 */
const EXPONENT = 0.5;

/**
 * Inputs whose largest channel, as a root mean square, is at least this many times the root mean square of all are
 * smoothed. Below it the step of a row's bytes is small against most channels already: on the embedded model smoothing
 * the rest, too, gained nothing, mean over the exits.
 */
const IMBALANCE = 4;

/** Largest root mean square of a channel over that of all channels: 1 where all are alike. */
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
 * Factors by channel, or null for an input that is level enough: rms^a / max^(1 - a), with max the largest magnitude of
 * the weights' column, over the geometric mean of all. (Powers of two would keep every bit of kernels in floats, but
 * level coarsely: .002 nats more on the embedded model.)
 * @param squares of the input's channels, as means or as sums
 * @param columnMaxima largest magnitude of each column of the weights that read it
 */
export function smoothingFactors(squares: Float32Array, columnMaxima: Float32Array): Float32Array | null {
  if (imbalance(squares) < IMBALANCE) return null;
  const logs = Float64Array.from(squares, (square, i) => {
    const column = columnMaxima[i] ?? 0;
    // A channel that is always zero, or that nobody reads, has nothing to level.
    return square > 0 && column > 0 ? (EXPONENT / 2) * Math.log2(square) - (1 - EXPONENT) * Math.log2(column) : NaN;
  });
  const known = logs.filter((value) => !Number.isNaN(value));
  const mean = known.reduce((a, b) => a + b, 0) / known.length;
  return Float32Array.from(logs, (value) => (Number.isNaN(value) ? 1 : 2 ** (value - mean)));
}
