/**
 * 4-bit symmetric rounding in blocks of a row, in the layout of MatMulNBits: [N, blocks, block / 2] bytes, the even
 * column in the low nibble, zero point 8.
 *
 * Knows: arithmetic. Must not know: graphs, files.
 */

/** Round to nearest with the scale that maps the largest magnitude to -8 (as llama.cpp's Q4_0 does). */
export function roundToNearestScale(data: Float32Array, from: number, to: number): number {
  let extreme = 0;
  for (let i = from; i < to; i++) if (Math.abs(data[i] ?? 0) > Math.abs(extreme)) extreme = data[i] ?? 0;
  return extreme / -8;
}

/** Quantizes rows of width k. */
export function quantizeBlocks4(data: Float32Array, k: number, block: number): { q: Uint8Array; scales: Float32Array } {
  const rows = data.length / k;
  const blocks = Math.ceil(k / block);
  const q = new Uint8Array((rows * blocks * block) / 2).fill(0x88);
  const scales = new Float32Array(rows * blocks);
  for (let r = 0; r < rows; r++)
    for (let b = 0; b < blocks; b++) {
      const from = r * k + b * block;
      const to = Math.min(from + block, (r + 1) * k);
      const scale = roundToNearestScale(data, from, to);
      scales[r * blocks + b] = scale;
      const inverse = scale === 0 ? 0 : 1 / scale;
      const base = (r * blocks + b) * block;
      for (let i = from; i < to; i++) {
        const level = Math.min(7, Math.max(-8, Math.round((data[i] ?? 0) * inverse))) + 8;
        const at = base + i - from;
        const byte = q[at >> 1] ?? 0;
        q[at >> 1] = at & 1 ? (byte & 0x0f) | (level << 4) : (byte & 0xf0) | level;
      }
    }
  return { q, scales };
}
