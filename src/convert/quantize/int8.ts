/**
 * 8-bit symmetric rounding: per row (w8a8) and per block of a row (embedding and head beside int4).
 *
 * Scales of 4- and 8-bit blocks take one signed byte each: scale = code x the row's unit. Weights are rounded with the
 * coded scale, so the coarse code costs next to nothing. It takes 1 byte in the file instead of 4. The graph multiplies
 * codes by units, and ONNX Runtime folds the product at load.
 */

export const MAX_CODE = 127;

/** Weights of some rows in bytes, and their scales: block b of row r has the scale codes[r * blocks + b] * units[r]. */
export interface CodedRows {
  q: Uint8Array;
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

/** Rows per pass of a transposition: their bytes in one column are adjacent and fill a cache line. */
const TILE_ROWS = 64;

/** Levels on each side of zero that hold this many bits of information: 127 for 8. Fewer levels compress better. */
export function levelsOf(bits: number): number {
  return Math.floor((2 ** bits - 1) / 2);
}

/** Quantizes rows of width k to levels -levels..levels with one scale each. Writes into `out` and `scales`. */
export function quantizeRows(
  data: Float32Array,
  k: number,
  out: Int8Array,
  scales: Float32Array,
  levels: number,
): void {
  for (let r = 0; r < scales.length; r++) {
    const scale = largest(data, r * k, (r + 1) * k) / levels;
    scales[r] = scale;
    const inverse = scale === 0 ? 0 : 1 / scale;
    for (let i = r * k; i < (r + 1) * k; i++) out[i] = Math.round((data[i] ?? 0) * inverse);
  }
}

/**
 * Quantizes `count` rows of width k with one scale per row to levels -levels..levels and writes them transposed into
 * `out`, an int8 matrix [K, N], at columns [start, start + count).
 */
export function quantizeRowsTransposed(
  data: Float32Array,
  { start, count, k, n }: { start: number; count: number; k: number; n: number },
  out: Int8Array,
  scales: Float32Array,
  levels: number,
): void {
  const inverse = new Float32Array(count);
  for (let r = 0; r < count; r++) {
    const scale = largest(data, r * k, (r + 1) * k) / levels;
    scales[start + r] = scale;
    inverse[r] = scale === 0 ? 0 : 1 / scale;
  }
  for (let first = 0; first < count; first += TILE_ROWS) {
    const last = Math.min(first + TILE_ROWS, count);
    for (let c = 0; c < k; c++) {
      const column = c * n + start;
      for (let r = first; r < last; r++) out[column + r] = Math.round((data[r * k + c] ?? 0) * (inverse[r] ?? 0));
    }
  }
}

/**
 * Quantizes rows of width k in blocks to unsigned bytes around 128 with levels -levels..levels, in the layout of
 * MatMulNBits and GatherBlockQuantized. 127 levels use all 8 bits. The last block of a row is padded with 128 (zero).
 */
export function quantizeBlocks8(data: Float32Array, k: number, block: number, levels: number): CodedRows {
  const rows = data.length / k;
  const blocks = Math.ceil(k / block);
  const q = new Uint8Array(rows * blocks * block).fill(128);
  const codes = new Int8Array(rows * blocks);
  const units = new Float32Array(rows);
  for (let r = 0; r < rows; r++) {
    const unit = Math.fround(largest(data, r * k, (r + 1) * k) / levels / MAX_CODE);
    units[r] = unit;
    if (unit === 0) continue;
    for (let b = 0; b < blocks; b++) {
      const from = r * k + b * block;
      const to = Math.min(from + block, (r + 1) * k);
      // Round up, so that the largest weight stays inside the levels.
      const code = Math.max(1, Math.min(MAX_CODE, Math.ceil(largest(data, from, to) / levels / unit - 1e-6)));
      codes[r * blocks + b] = code;
      const inverse = 1 / (code * unit);
      const base = (r * blocks + b) * block;
      for (let i = from; i < to; i++) {
        const level = Math.round((data[i] ?? 0) * inverse);
        q[base + i - from] = 128 + Math.max(-levels, Math.min(levels, level));
      }
    }
  }
  return { q, codes, units };
}
