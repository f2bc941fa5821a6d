/**
 * A linear layer's weight as the kernels see it: rows of one or more source tensors, stacked (fused QKV, fused gate
 * and up).
 */
import type { SourceTensor } from './tensors.js';

/** Floats per piece of a streamed tensor: 32 MB. */
const PIECE_FLOATS = 1 << 23;

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
  return { ...tensor, rows: (start, count) => tensor.rows(start, count).map((value) => value * factor) };
}

/** Multiplies the columns of a tensor [N, K] or [K] by factors [K]; null changes nothing. */
export function scaledColumns(tensor: SourceTensor, factors: Float32Array | null): SourceTensor {
  if (factors === null) return tensor;
  const k = factors.length;
  return {
    ...tensor,
    rows: (start, count) => tensor.rows(start, count).map((value, i) => value * (factors[i % k] ?? 1)),
  };
}

/** Multiplies the rows of a tensor [N, K] by factors [N]; null changes nothing. */
export function scaledRows(tensor: SourceTensor, factors: Float32Array | null): SourceTensor {
  if (factors === null) return tensor;
  const k = tensor.shape[1] ?? 1;
  return {
    ...tensor,
    rows: (start, count) =>
      tensor.rows(start, count).map((value, i) => value * (factors[start + Math.floor(i / k)] ?? 1)),
  };
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
