/** Weights of the source as the graphs need them: scaled, in another order, stacked, in halves. */
import type { SourceTensor } from './source.js';

/** Floats per piece of a streamed tensor: 32 MB. */
const PIECE_FLOATS = 1 << 23;

/** A linear layer's weight as the kernels see it: rows of one or more source tensors, such as fused QKV. */
export interface LinearWeight {
  /** Prefix of its initializers, unique in the model, e.g. `layers.3.qkv`. */
  name: string;
  /** Outputs (rows). */
  n: number;
  /** Inputs (columns). */
  k: number;
  /** All rows in order, in pieces of whole rows. */
  pieces(): Iterable<{ start: number; count: number; data: Float32Array }>;
}

/** Multiplies a tensor by a number. */
export function scaled(tensor: SourceTensor, factor: number): SourceTensor {
  return factor === 1 ? tensor : multiplied(tensor, () => factor);
}

/** Multiplies the columns of a tensor [N, K] or [K] by factors [K]; null changes nothing. */
export function scaledColumns(tensor: SourceTensor, factors: Float32Array | null): SourceTensor {
  return factors === null ? tensor : multiplied(tensor, (i) => factors[i % factors.length] ?? 1);
}

/** Multiplies the rows of a tensor [N, K] by factors [N]; null changes nothing. */
export function scaledRows(tensor: SourceTensor, factors: Float32Array | null): SourceTensor {
  const k = tensor.shape[1] ?? 1;
  return factors === null ? tensor : multiplied(tensor, (i, start) => factors[start + Math.floor(i / k)] ?? 1);
}

/** @param factor of value i of rows from `start` on */
function multiplied(tensor: SourceTensor, factor: (i: number, start: number) => number): SourceTensor {
  return {
    ...tensor,
    rows: (start, count) => tensor.rows(start, count).map((value, i) => value * factor(i, start)),
  };
}

/**
 * A tensor [heads * head_dim, K] or [heads * head_dim], whose rows have another order within each head.
 * @param order the row at each place of a head
 */
export function reordered(tensor: SourceTensor, order: readonly number[]): SourceTensor {
  const [, width] = tensor.shape;
  if (width === undefined) return { ...tensor, rows: () => inOrder(tensor.rows(0, 1), 1, order) };
  const head = order.length;
  return {
    ...tensor,
    rows(start, count) {
      // The order changes only inside a head, so read the whole heads around the rows.
      const first = start - (start % head);
      const whole = Math.ceil((start + count - first) / head) * head;
      const rows = inOrder(tensor.rows(first, whole), width, order);
      return rows.slice((start - first) * width, (start - first + count) * width);
    },
  };
}

/** Rows of `width` values, in another order within each head. */
export function inOrder(values: Float32Array, width: number, order: readonly number[]): Float32Array {
  const out = new Float32Array(values.length);
  const head = order.length;
  for (let row = 0; row * width < values.length; row++) {
    const from = (row - (row % head) + (order[row % head] ?? NaN)) * width;
    out.set(values.subarray(from, from + width), row * width);
  }
  return out;
}

/** The largest magnitude in each column of tensors of equal width. */
export function columnMaxima(parts: SourceTensor[]): Float32Array {
  const stacked = linearWeight('', parts);
  const { k } = stacked;
  const maxima = new Float32Array(k);
  for (const { data } of stacked.pieces())
    for (let i = 0, c = 0; i < data.length; i++, c = c + 1 === k ? 0 : c + 1)
      maxima[c] = Math.max(maxima[c] ?? 0, Math.abs(data[i] ?? 0));
  return maxima;
}

/** Stacks tensors of equal width. */
export function linearWeight(name: string, parts: SourceTensor[]): LinearWeight {
  const k = parts[0]?.shape[1] ?? 0;
  const n = parts.reduce((sum, part) => sum + (part.shape[0] ?? 0), 0);
  return {
    name,
    n,
    k,
    *pieces() {
      let at = 0;
      for (const part of parts) {
        const rows = part.shape[0] ?? 0;
        const step = Math.max(1, Math.floor(PIECE_FLOATS / k));
        for (let start = 0; start < rows; start += step) {
          const count = Math.min(step, rows - start);
          yield { start: at + start, count, data: part.rows(start, count) };
        }
        at += rows;
      }
    },
  };
}

const scratch = new Float32Array(1);
const scratchBits = new Uint32Array(scratch.buffer);

/** Nearest IEEE half, ties to even; overflow gives infinity. */
export function floatToHalf(value: number): number {
  scratch[0] = value;
  const bits = scratchBits[0] ?? 0;
  const sign = (bits >>> 16) & 0x8000;
  const abs = bits & 0x7fffffff;
  if (abs > 0x7f800000) return sign | 0x7e00;
  if (abs >= 0x47800000) return sign | 0x7c00;
  if (abs < 0x38800000) {
    // A subnormal half counts units of 2^-24. The product is exact in floats, so rounding happens once.
    const units = Math.abs(value) * 2 ** 24;
    const floor = Math.floor(units);
    const rest = units - floor;
    return sign | (rest > 0.5 || (rest === 0.5 && floor & 1) ? floor + 1 : floor);
  }
  const rounded = abs + 0xfff + ((abs >>> 13) & 1);
  return sign | ((rounded - 0x38000000) >>> 13);
}

/** Converts each element. */
export function toHalf(values: Float32Array): Uint16Array {
  const out = new Uint16Array(values.length);
  for (let i = 0; i < values.length; i++) out[i] = floatToHalf(values[i] ?? 0);
  return out;
}
