/** Decodes GGML block formats (ggml-common.h and ggml-quants.c of llama.cpp) into 32-bit floats. */

export interface Format {
  readonly name: string;
  /** Weights and bytes of one block. */
  readonly block: number;
  readonly bytes: number;
  decode(src: Uint8Array, out: Float32Array): void;
}

/** Decodes the block at byte b into the weights from `at` on. */
type Block = (src: Uint8Array, b: number, out: Float32Array, at: number) => void;

function halfToFloat(h: number): number {
  const sign = h & 0x8000 ? -1 : 1;
  const exponent = (h >> 10) & 0x1f;
  const fraction = h & 0x3ff;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

/** All 65,536 halves as floats: one look-up per weight replaces bit arithmetic. */
export const HALF_TO_FLOAT = Float32Array.from({ length: 65536 }, (_, h) => halfToFloat(h));

const half = (src: Uint8Array, at: number): number => HALF_TO_FLOAT[(src[at] ?? 0) | ((src[at + 1] ?? 0) << 8)] ?? 0;
const signed = (src: Uint8Array, at: number): number => ((src[at] ?? 0) << 24) >> 24;

function f32(src: Uint8Array, out: Float32Array): void {
  new Uint8Array(out.buffer, out.byteOffset, out.byteLength).set(src);
}

function f16(src: Uint8Array, out: Float32Array): void {
  for (let i = 0; i < out.length; i++) out[i] = half(src, 2 * i);
}

/** bfloat16 is the upper half of a 32-bit float. */
function bf16(src: Uint8Array, out: Float32Array): void {
  const bits = new Uint32Array(out.buffer, out.byteOffset, out.length);
  for (let i = 0; i < out.length; i++) bits[i] = ((src[2 * i] ?? 0) << 16) | ((src[2 * i + 1] ?? 0) << 24);
}

/** The code of weight i of a block, from the bytes behind its scales. */
type Code = (src: Uint8Array, at: number, i: number) => number;

/** f16 d, then 32 codes: d * (code - zero). */
const scaled =
  (code: Code, zero = 0): Block =>
  (src, b, out, at) => {
    const d = half(src, b);
    for (let i = 0; i < 32; i++) out[at + i] = d * (code(src, b + 2, i) - zero);
  };

/** f16 d, f16 m, then 32 codes: d * code + m. */
const shifted =
  (code: Code): Block =>
  (src, b, out, at) => {
    const d = half(src, b);
    const m = half(src, b + 2);
    for (let i = 0; i < 32; i++) out[at + i] = d * code(src, b + 4, i) + m;
  };

const int8: Code = (src, at, i) => signed(src, at + i);

/** Weight i of 32 codes in 16 bytes: low nibbles are weights 0..15, high nibbles 16..31. */
const nibble: Code = (src, at, i) => {
  const byte = src[at + (i & 15)] ?? 0;
  return i < 16 ? byte & 15 : byte >> 4;
};

/** Weight i of 32 codes: its fifth bit lies in 4 bytes, and its nibble in the 16 bytes behind. */
const fiveBits: Code = (src, at, i) => nibble(src, at + 4, i) | ((((src[at + (i >> 3)] ?? 0) >> (i & 7)) & 1) << 4);

/** Levels that the nibbles of iq4_nl name. */
const IQ4_LEVELS = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];
const level: Code = (src, at, i) => IQ4_LEVELS[nibble(src, at, i)] ?? 0;

/** Two bits of weight i of 256: each 32 bytes hold 128 weights, 32 to a shift. */
function bitPair(src: Uint8Array, at: number, i: number): number {
  return ((src[at + 32 * (i >> 7) + (i & 31)] ?? 0) >> (2 * ((i >> 5) & 3))) & 3;
}

/** 16 bytes with a 4-bit scale and a 4-bit minimum for each 16 weights, 64 bytes of bit pairs, f16 d, f16 dmin. */
const q2_k: Block = (src, b, out, at) => {
  const d = half(src, b + 80);
  const dmin = half(src, b + 82);
  for (let i = 0; i < 256; i++) {
    const scale = src[b + (i >> 4)] ?? 0;
    out[at + i] = d * (scale & 15) * bitPair(src, b + 16, i) - dmin * (scale >> 4);
  }
};

/**
 * 32 bytes of third bits, 64 bytes of bit pairs, 12 bytes of 6-bit scales with offset 32, f16 d. A missing bit is -4.
 */
const q3_k: Block = (src, b, out, at) => {
  const d = half(src, b + 108);
  for (let i = 0; i < 256; i++) {
    const group = i >> 4;
    const low = (src[b + 96 + (group & 7)] ?? 0) >> (group < 8 ? 0 : 4);
    const high = (src[b + 104 + (group & 3)] ?? 0) >> (2 * (group >> 2));
    const scale = ((low & 15) | ((high & 3) << 4)) - 32;
    const top = ((src[b + (i & 31)] ?? 0) >> (i >> 5)) & 1;
    out[at + i] = d * scale * (bitPair(src, b + 32, i) - (top ? 0 : 4));
  }
};

/** Scale and minimum of sub-block j of a block of q4_k or q5_k. */
function subBlock(src: Uint8Array, b: number, j: number): { scale: number; min: number } {
  const packed = (i: number): number => src[b + 4 + i] ?? 0;
  const scale = j < 4 ? packed(j) & 63 : (packed(j + 4) & 15) | ((packed(j - 4) >> 6) << 4);
  const min = j < 4 ? packed(j + 4) & 63 : (packed(j + 4) >> 4) | ((packed(j) >> 6) << 4);
  return { scale: half(src, b) * scale, min: half(src, b + 2) * min };
}

/**
 * f16 d, f16 dmin, 12 bytes of 6-bit scales and minima of 8 sub-blocks, for q5_k 32 bytes of fifth bits, 128 bytes of
 * nibbles: 32 low, 32 high.
 */
const q4or5_k =
  (hasFifth: boolean): Block =>
  (src, b, out, at) => {
    const nibbles = b + (hasFifth ? 48 : 16);
    for (let j = 0; j < 8; j++) {
      const { scale, min } = subBlock(src, b, j);
      for (let i = 0; i < 32; i++) {
        const low = ((src[nibbles + 32 * (j >> 1) + i] ?? 0) >> (j & 1 ? 4 : 0)) & 15;
        const top = hasFifth ? ((src[b + 16 + i] ?? 0) >> j) & 1 : 0;
        out[at + 32 * j + i] = scale * (low | (top << 4)) - min;
      }
    }
  };

/** 128 bytes of low nibbles, 64 bytes of upper bit pairs, 16 int8 scales, f16 d; weights 6 bits, offset 32. */
const q6_k: Block = (src, b, out, at) => {
  const d = half(src, b + 208);
  for (let i = 0; i < 256; i++) {
    const byte = src[b + 64 * (i >> 7) + (i & 63)] ?? 0;
    const low = i & 64 ? byte >> 4 : byte & 15;
    out[at + i] = d * signed(src, b + 192 + (i >> 4)) * ((low | (bitPair(src, b + 128, i) << 4)) - 32);
  }
};

function blocks(name: string, block: number, bytes: number, decodeBlock: Block): Format {
  const decode: Format['decode'] = (src, out) => {
    for (let b = 0, at = 0; at < out.length; b += bytes, at += block) decodeBlock(src, b, out, at);
  };
  return { name, block, bytes, decode };
}

/** By ggml_type number. */
export const GGML_FORMATS: ReadonlyMap<number, Format> = new Map([
  [0, { name: 'F32', block: 1, bytes: 4, decode: f32 }],
  [1, { name: 'F16', block: 1, bytes: 2, decode: f16 }],
  [2, blocks('Q4_0', 32, 18, scaled(nibble, 8))],
  [3, blocks('Q4_1', 32, 20, shifted(nibble))],
  [6, blocks('Q5_0', 32, 22, scaled(fiveBits, 16))],
  [7, blocks('Q5_1', 32, 24, shifted(fiveBits))],
  [8, blocks('Q8_0', 32, 34, scaled(int8))],
  [10, blocks('Q2_K', 256, 84, q2_k)],
  [11, blocks('Q3_K', 256, 110, q3_k)],
  [12, blocks('Q4_K', 256, 144, q4or5_k(false))],
  [13, blocks('Q5_K', 256, 176, q4or5_k(true))],
  [14, blocks('Q6_K', 256, 210, q6_k)],
  [20, blocks('IQ4_NL', 32, 18, scaled(level))],
  [30, { name: 'BF16', block: 1, bytes: 2, decode: bf16 }],
]);
