/** Writes a GGUF file whose tensors hold random weights (docs/gguf.md of github.com/ggml-org/ggml, version 3). */
import { closeSync, openSync, writeSync } from 'node:fs';
import { seeded } from '../../src/util/random.js';

const ALIGNMENT = 32;
/** Type codes of metadata values. */
const VALUE = { u32: 4, f32: 6, bool: 7, string: 8, array: 9 } as const;

/** Formats of tensors: GGML's type code, weights and bytes of a block, and where the block has its scale (a half). */
export const FORMATS = {
  F32: { code: 0, block: 1, bytes: 4, scaleAt: 0 },
  Q4_0: { code: 2, block: 32, bytes: 18, scaleAt: 0 },
  Q8_0: { code: 8, block: 32, bytes: 34, scaleAt: 0 },
  Q6_K: { code: 14, block: 256, bytes: 210, scaleAt: 208 },
} as const;
export type Format = keyof typeof FORMATS;

export type Value = { u32: number } | { f32: number } | { bool: boolean } | { string: string } | { strings: string[] };

export interface RandomTensor {
  readonly name: string;
  /** Row-major, slowest first. */
  readonly shape: readonly number[];
  readonly format: Format;
  /** Scale of every block. A tensor in F32 holds this number everywhere. */
  readonly scale: number;
  /** Rows of the pattern before the tensor's first one; 0 where absent. */
  readonly rowsBefore?: number;
}

/** Blocks of the pattern that every tensor repeats: a prime beyond usual vocabularies, so no two rows are equal. */
const PATTERN_BLOCKS = 131_101;

export function writeRandomGguf(
  file: string,
  metadata: Readonly<Record<string, Value>>,
  tensors: readonly RandomTensor[],
): void {
  const fd = openSync(file, 'w');
  try {
    let position = writeSync(fd, header(metadata, tensors));
    const pad = (): void => {
      position += writeSync(fd, new Uint8Array((ALIGNMENT - (position % ALIGNMENT)) % ALIGNMENT));
    };
    pad();
    for (const tensor of tensors) {
      const pattern = patternOf(tensor);
      let from = startOf(tensor);
      for (let left = bytesOf(tensor); left > 0;) {
        const written = writeSync(fd, pattern, from, Math.min(left, pattern.length - from));
        left -= written;
        position += written;
        from = (from + written) % pattern.length;
      }
      pad();
    }
  } finally {
    closeSync(fd);
  }
}

function bytesOf({ shape, format }: RandomTensor): number {
  const { block, bytes } = FORMATS[format];
  return (shape.reduce((a, b) => a * b, 1) / block) * bytes;
}

/** First byte of a tensor in the pattern. */
function startOf({ shape, format, rowsBefore = 0 }: RandomTensor): number {
  const { block, bytes } = FORMATS[format];
  const rows = (rowsBefore * (shape.at(-1) ?? 0)) / block;
  return (((rows % PATTERN_BLOCKS) + PATTERN_BLOCKS) % PATTERN_BLOCKS) * bytes;
}

/** Some blocks of the tensor, to be repeated. */
function patternOf({ format, scale }: RandomTensor): Uint8Array {
  const { bytes, scaleAt } = FORMATS[format];
  if (format === 'F32') return new Uint8Array(new Float32Array(PATTERN_BLOCKS).fill(scale).buffer);
  const random = seeded(7);
  const pattern = Uint8Array.from({ length: PATTERN_BLOCKS * bytes }, () => Math.floor(random() * 256));
  const half = new Uint8Array(Uint16Array.of(halfOf(scale)).buffer);
  for (let at = scaleAt; at < pattern.length; at += bytes) pattern.set(half, at);
  return pattern;
}

/** The IEEE half of a positive number, rounded down. */
function halfOf(value: number): number {
  const exponent = Math.floor(Math.log2(value));
  // Smaller numbers are multiples of the least one.
  if (exponent < -14) return Math.floor(value * 2 ** 24);
  return ((exponent + 15) << 10) | Math.floor((value / 2 ** exponent - 1) * 1024);
}

function header(metadata: Readonly<Record<string, Value>>, tensors: readonly RandomTensor[]): Uint8Array {
  const parts: Uint8Array[] = [];
  const u32 = (value: number): void => void parts.push(new Uint8Array(Uint32Array.of(value).buffer));
  const u64 = (value: number): void => void parts.push(new Uint8Array(BigUint64Array.of(BigInt(value)).buffer));
  const string = (text: string): void => {
    const bytes = Buffer.from(text);
    u64(bytes.length);
    parts.push(bytes);
  };
  parts.push(Buffer.from('GGUF'));
  u32(3);
  u64(tensors.length);
  u64(Object.keys(metadata).length);
  for (const [key, value] of Object.entries(metadata)) {
    string(key);
    if ('u32' in value) {
      u32(VALUE.u32);
      u32(value.u32);
    } else if ('f32' in value) {
      u32(VALUE.f32);
      parts.push(new Uint8Array(Float32Array.of(value.f32).buffer));
    } else if ('bool' in value) {
      u32(VALUE.bool);
      parts.push(Uint8Array.of(Number(value.bool)));
    } else if ('string' in value) {
      u32(VALUE.string);
      string(value.string);
    } else {
      u32(VALUE.array);
      u32(VALUE.string);
      u64(value.strings.length);
      value.strings.forEach(string);
    }
  }
  let offset = 0;
  for (const tensor of tensors) {
    string(tensor.name);
    u32(tensor.shape.length);
    for (const dim of tensor.shape.toReversed()) u64(dim);
    u32(FORMATS[tensor.format].code);
    u64(offset);
    offset += Math.ceil(bytesOf(tensor) / ALIGNMENT) * ALIGNMENT;
  }
  return Buffer.concat(parts);
}
