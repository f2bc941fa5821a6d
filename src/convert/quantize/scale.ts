/**
 * Scales of 4- and 8-bit blocks in one signed byte each: scale = code x the row's unit.
 *
 * Knows: arithmetic. Must not know: which weights are scaled.
 *
 * A scale is always chosen among the codes before its weights are rounded, so that the coarse scale costs next to
 * nothing, and takes 1 byte in the file instead of 4. The graph multiplies the codes out; ONNX Runtime folds that
 * into constants when it loads the graph.
 */

export const MAX_CODE = 127;

/** The block scales of some rows: scale of block b of row r is codes[r * blocks + b] * units[r]. */
export interface CodedScales {
  codes: Int8Array;
  units: Float32Array;
}

/** The nearest code that is not 0 (a scale of 0 would lose the block). */
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
