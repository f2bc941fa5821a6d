/** Decodes GGML block formats (ggml-common.h and ggml-quants.c of llama.cpp) into 32-bit floats. */
import { HALF_TO_FLOAT } from '../half.js';

interface Format {
  name: string;
  /** Weights and bytes of one block. */
  block: number;
  bytes: number;
  decode(src: Uint8Array, out: Float32Array): void;
}

const half = (src: Uint8Array, at: number): number => HALF_TO_FLOAT[(src[at] ?? 0) | ((src[at + 1] ?? 0) << 8)] ?? 0;

function f32(src: Uint8Array, out: Float32Array): void {
  new Uint8Array(out.buffer, out.byteOffset, out.byteLength).set(src);
}

function f16(src: Uint8Array, out: Float32Array): void {
  for (let i = 0; i < out.length; i++) out[i] = half(src, 2 * i);
}

/** bfloat16 is the upper half of a 32-bit float. */
export function bf16(src: Uint8Array, out: Float32Array): void {
  const bits = new Uint32Array(out.buffer, out.byteOffset, out.length);
  for (let i = 0; i < out.length; i++) bits[i] = ((src[2 * i] ?? 0) << 16) | ((src[2 * i + 1] ?? 0) << 24);
}

/** f16 d, then 32 int8. */
function q8_0(src: Uint8Array, out: Float32Array): void {
  const signed = new Int8Array(src.buffer, src.byteOffset, src.length);
  for (let b = 0, at = 0; at < out.length; b += 34, at += 32) {
    const d = half(src, b);
    for (let i = 0; i < 32; i++) out[at + i] = d * (signed[b + 2 + i] ?? 0);
  }
}

/** f16 d, then 16 bytes: low nibbles are weights 0..15, high nibbles 16..31, offset 8. */
function q4_0(src: Uint8Array, out: Float32Array): void {
  for (let b = 0, at = 0; at < out.length; b += 18, at += 32) {
    const d = half(src, b);
    for (let i = 0; i < 16; i++) {
      const byte = src[b + 2 + i] ?? 0;
      out[at + i] = d * ((byte & 15) - 8);
      out[at + 16 + i] = d * ((byte >> 4) - 8);
    }
  }
}

/** f16 d, f16 m, then nibbles as in q4_0 without an offset: d * q + m. */
function q4_1(src: Uint8Array, out: Float32Array): void {
  for (let b = 0, at = 0; at < out.length; b += 20, at += 32) {
    const d = half(src, b);
    const m = half(src, b + 2);
    for (let i = 0; i < 16; i++) {
      const byte = src[b + 4 + i] ?? 0;
      out[at + i] = d * (byte & 15) + m;
      out[at + 16 + i] = d * (byte >> 4) + m;
    }
  }
}

/** f16 d, 4 bytes of fifth bits, then nibbles as in q4_0; offset 16. */
function q5_0(src: Uint8Array, out: Float32Array): void {
  for (let b = 0, at = 0; at < out.length; b += 22, at += 32) {
    const d = half(src, b);
    for (let i = 0; i < 32; i++) out[at + i] = d * (fiveBits(src, b + 2, i) - 16);
  }
}

/** f16 d, f16 m, then as in q5_0 without an offset: d * q + m. */
function q5_1(src: Uint8Array, out: Float32Array): void {
  for (let b = 0, at = 0; at < out.length; b += 24, at += 32) {
    const d = half(src, b);
    const m = half(src, b + 2);
    for (let i = 0; i < 32; i++) out[at + i] = d * fiveBits(src, b + 4, i) + m;
  }
}

/** Weight i of a block of 32: its fifth bit lies in 4 bytes, and its nibble in the 16 bytes behind. */
function fiveBits(src: Uint8Array, at: number, i: number): number {
  const byte = src[at + 4 + (i & 15)] ?? 0;
  const top = ((src[at + (i >> 3)] ?? 0) >> (i & 7)) & 1;
  return (i < 16 ? byte & 15 : byte >> 4) | (top << 4);
}

/** 16 bytes with a 4-bit scale and a 4-bit minimum for each 16 weights, 64 bytes of bit pairs, f16 d, f16 dmin. */
function q2_k(src: Uint8Array, out: Float32Array): void {
  for (let b = 0, at = 0; at < out.length; b += 84, at += 256) {
    const d = half(src, b + 80);
    const dmin = half(src, b + 82);
    for (let i = 0; i < 256; i++) {
      const scale = src[b + (i >> 4)] ?? 0;
      out[at + i] = d * (scale & 15) * bitPair(src, b + 16, i) - dmin * (scale >> 4);
    }
  }
}

/** 32 bytes of third bits, 64 bytes of bit pairs, 12 bytes of 6-bit scales with offset 32, f16 d. A missing bit is -4. */
function q3_k(src: Uint8Array, out: Float32Array): void {
  for (let b = 0, at = 0; at < out.length; b += 110, at += 256) {
    const d = half(src, b + 108);
    for (let i = 0; i < 256; i++) {
      const group = i >> 4;
      const low = (src[b + 96 + (group & 7)] ?? 0) >> (group < 8 ? 0 : 4);
      const high = (src[b + 104 + (group & 3)] ?? 0) >> (2 * (group >> 2));
      const scale = ((low & 15) | ((high & 3) << 4)) - 32;
      const top = ((src[b + (i & 31)] ?? 0) >> (i >> 5)) & 1;
      out[at + i] = d * scale * (bitPair(src, b + 32, i) - (top ? 0 : 4));
    }
  }
}

/** Two bits of weight i of 256: each 32 bytes hold 128 weights, 32 to a shift. */
function bitPair(src: Uint8Array, at: number, i: number): number {
  return ((src[at + 32 * (i >> 7) + (i & 31)] ?? 0) >> (2 * ((i >> 5) & 3))) & 3;
}

/** f16 d, f16 dmin, 12 bytes of 6-bit scales and minima of 8 sub-blocks, 128 bytes of nibbles: 32 low, 32 high. */
function q4_k(src: Uint8Array, out: Float32Array): void {
  for (let b = 0, at = 0; at < out.length; b += 144, at += 256) {
    for (let j = 0; j < 8; j++) {
      const { scale, min } = subBlock(src, b, j);
      const from = b + 16 + (j >> 1) * 32;
      for (let i = 0; i < 32; i++) {
        const byte = src[from + i] ?? 0;
        out[at + 32 * j + i] = scale * (j & 1 ? byte >> 4 : byte & 15) - min;
      }
    }
  }
}

/** As q4_k, with 32 bytes of fifth bits in front of the nibbles. */
function q5_k(src: Uint8Array, out: Float32Array): void {
  for (let b = 0, at = 0; at < out.length; b += 176, at += 256) {
    for (let j = 0; j < 8; j++) {
      const { scale, min } = subBlock(src, b, j);
      const from = b + 48 + (j >> 1) * 32;
      for (let i = 0; i < 32; i++) {
        const byte = src[from + i] ?? 0;
        const top = ((src[b + 16 + i] ?? 0) >> j) & 1;
        out[at + 32 * j + i] = scale * ((j & 1 ? byte >> 4 : byte & 15) | (top << 4)) - min;
      }
    }
  }
}

/** Scale and minimum of sub-block j of a block of q4_k or q5_k. */
function subBlock(src: Uint8Array, b: number, j: number): { scale: number; min: number } {
  const packed = (i: number): number => src[b + 4 + i] ?? 0;
  const scale = j < 4 ? packed(j) & 63 : (packed(j + 4) & 15) | ((packed(j - 4) >> 6) << 4);
  const min = j < 4 ? packed(j + 4) & 63 : (packed(j + 4) >> 4) | ((packed(j) >> 6) << 4);
  return { scale: half(src, b) * scale, min: half(src, b + 2) * min };
}

/** Levels of the 4-bit codes of iq4_nl. */
const IQ4_LEVELS = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/** f16 d, then nibbles as in q4_0 that name a level. */
function iq4_nl(src: Uint8Array, out: Float32Array): void {
  for (let b = 0, at = 0; at < out.length; b += 18, at += 32) {
    const d = half(src, b);
    for (let i = 0; i < 16; i++) {
      const byte = src[b + 2 + i] ?? 0;
      out[at + i] = d * (IQ4_LEVELS[byte & 15] ?? 0);
      out[at + 16 + i] = d * (IQ4_LEVELS[byte >> 4] ?? 0);
    }
  }
}

/** 128 bytes of low nibbles, 64 bytes of upper bit pairs, 16 int8 scales, f16 d; weights 6 bits, offset 32. */
function q6_k(src: Uint8Array, out: Float32Array): void {
  const signed = new Int8Array(src.buffer, src.byteOffset, src.length);
  for (let b = 0, at = 0; at < out.length; b += 210, at += 256) {
    const d = half(src, b + 208);
    for (let n = 0; n < 2; n++) {
      for (let i = 0; i < 32; i++) {
        const low = src[b + 64 * n + i] ?? 0;
        const high = src[b + 64 * n + 32 + i] ?? 0;
        const top = src[b + 128 + 32 * n + i] ?? 0;
        const scale = (group: number): number => d * (signed[b + 192 + 8 * n + (i >> 4) + 2 * group] ?? 0);
        const to = at + 128 * n + i;
        out[to] = scale(0) * (((low & 15) | ((top & 3) << 4)) - 32);
        out[to + 32] = scale(1) * (((high & 15) | (((top >> 2) & 3) << 4)) - 32);
        out[to + 64] = scale(2) * (((low >> 4) | (((top >> 4) & 3) << 4)) - 32);
        out[to + 96] = scale(3) * (((high >> 4) | (((top >> 6) & 3) << 4)) - 32);
      }
    }
  }
}

/** By ggml_type number. */
export const GGML_FORMATS: ReadonlyMap<number, Format> = new Map([
  [0, { name: 'F32', block: 1, bytes: 4, decode: f32 }],
  [1, { name: 'F16', block: 1, bytes: 2, decode: f16 }],
  [2, { name: 'Q4_0', block: 32, bytes: 18, decode: q4_0 }],
  [3, { name: 'Q4_1', block: 32, bytes: 20, decode: q4_1 }],
  [6, { name: 'Q5_0', block: 32, bytes: 22, decode: q5_0 }],
  [7, { name: 'Q5_1', block: 32, bytes: 24, decode: q5_1 }],
  [8, { name: 'Q8_0', block: 32, bytes: 34, decode: q8_0 }],
  [10, { name: 'Q2_K', block: 256, bytes: 84, decode: q2_k }],
  [11, { name: 'Q3_K', block: 256, bytes: 110, decode: q3_k }],
  [12, { name: 'Q4_K', block: 256, bytes: 144, decode: q4_k }],
  [13, { name: 'Q5_K', block: 256, bytes: 176, decode: q5_k }],
  [14, { name: 'Q6_K', block: 256, bytes: 210, decode: q6_k }],
  [20, { name: 'IQ4_NL', block: 32, bytes: 18, decode: iq4_nl }],
  [30, { name: 'BF16', block: 1, bytes: 2, decode: bf16 }],
]);
