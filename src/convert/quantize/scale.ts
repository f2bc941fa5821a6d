/**
 * Scales of 4- and 8-bit blocks in one signed byte each: scale = code x the row's unit.
 *
 * Weights are rounded with the coded scale, so the coarse code costs next to nothing. It takes 1 byte in the file
 * instead of 4. The graph multiplies codes by units, and ONNX Runtime folds the product at load.
 */

export const MAX_CODE = 127;

/** The block scales of some rows: block b of row r has the scale codes[r * blocks + b] * units[r]. */
export interface CodedScales {
  codes: Int8Array;
  units: Float32Array;
}

/** The nearest code other than 0, which would zero the block. */
export function nearestCode(scale: number, unit: number): number {
  const code = Math.max(-MAX_CODE, Math.min(MAX_CODE, Math.round(scale / unit)));
  return code === 0 ? 1 : code;
}

/** Largest magnitude of values[from, to). */
export function largest(values: Float32Array, from: number, to: number): number {
  let max = 0;
  for (let i = from; i < to; i++) max = Math.max(max, Math.abs(values[i] ?? 0));
  return max;
}
