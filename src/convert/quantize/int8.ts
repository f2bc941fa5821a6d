/**
 * 8-bit symmetric rounding: per row (w8a8 weights) and per block of a row (embedding and head).
 *
 * Knows: arithmetic. Must not know: graphs, files.
 */

/** Largest magnitude of values[from, to). */
export function largest(values: Float32Array, from: number, to: number): number {
  let max = 0;
  for (let i = from; i < to; i++) max = Math.max(max, Math.abs(values[i] ?? 0));
  return max;
}

/**
 * Quantizes `count` rows of width k with one scale per row and writes them transposed into `out`, an int8 matrix
 * [K, N], at columns [start, start + count).
 */
export function quantizeRowsTransposed(
  data: Float32Array,
  { start, count, k, n }: { start: number; count: number; k: number; n: number },
  out: Int8Array,
  scales: Float32Array,
): void {
  for (let r = 0; r < count; r++) {
    const scale = largest(data, r * k, (r + 1) * k) / 127;
    scales[start + r] = scale;
    const inverse = scale === 0 ? 0 : 1 / scale;
    for (let c = 0; c < k; c++) out[c * n + start + r] = Math.round((data[r * k + c] ?? 0) * inverse);
  }
}

/**
 * Quantizes rows in blocks to unsigned bytes around 128, as MatMulNBits and GatherBlockQuantized read them.
 * The last block of a row is padded with 128 (zero).
 */
export function quantizeBlocks8(data: Float32Array, k: number, block: number): { q: Uint8Array; scales: Float32Array } {
  const rows = data.length / k;
  const blocks = Math.ceil(k / block);
  const q = new Uint8Array(rows * blocks * block).fill(128);
  const scales = new Float32Array(rows * blocks);
  for (let r = 0; r < rows; r++)
    for (let b = 0; b < blocks; b++) {
      const from = r * k + b * block;
      const to = Math.min(from + block, (r + 1) * k);
      const scale = largest(data, from, to) / 127;
      scales[r * blocks + b] = scale;
      const inverse = scale === 0 ? 0 : 1 / scale;
      const base = (r * blocks + b) * block;
      for (let i = from; i < to; i++) q[base + i - from] = 128 + Math.round((data[i] ?? 0) * inverse);
    }
  return { q, scales };
}
