/**
 * 4-bit symmetric rounding in blocks of a row, in the layout of MatMulNBits: [N, blocks, block / 2] bytes, the even
 * column in the low nibble, zero point 8.
 *
 * GPTQ (arXiv 2210.17323) rounds a row column by column and corrects the remaining columns for each error, which keeps
 * the change of the layer's output on the calibration inputs small.
 */
import { ConvertError } from '../conversion-error.js';
import { type CodedRows, largest, MAX_CODE, nearestCode } from './int8.js';

/** Quantizes whole rows of width k. */
export type Int4Quantizer = (data: Float32Array, k: number, block: number) => CodedRows;

/** Scales to try, as multiples of the scale that maps the block's largest magnitude to 8. */
const FACTORS = Array.from({ length: 23 }, (_, i) => 0.62 + 0.024 * i);

/** An empty result: every weight 0. */
function emptyInt4(rows: number, k: number, block: number): CodedRows {
  const blocks = Math.ceil(k / block);
  return {
    q: new Uint8Array((rows * blocks * block) / 2).fill(0x88),
    codes: new Int8Array(rows * blocks),
    units: new Float32Array(rows),
  };
}

/** The unit of a row: the largest weight gets the largest code at the coarsest scale. */
function int4Unit(data: Float32Array, from: number, to: number): number {
  return Math.fround((largest(data, from, to) * Math.max(...FACTORS)) / 8 / MAX_CODE);
}

/** The level, -8..7, nearest to value / scale. @param inverse 1 / scale */
function int4Level(value: number, inverse: number): number {
  const level = Math.round(value * inverse);
  return level < -8 ? -8 : level > 7 ? 7 : level;
}

/** Writes a level into the packed bytes. @param at column, from the start of the buffer */
function packInt4(q: Uint8Array, at: number, level: number): void {
  const byte = q[at >> 1] ?? 0;
  q[at >> 1] = at & 1 ? (byte & 0x0f) | ((level + 8) << 4) : (byte & 0xf0) | (level + 8);
}

/**
 * The scale code of values[from, to) with the least squared error, each weighted by importance[i - from + at]. Both
 * signs are tried, because the levels reach -8 on one side and 7 on the other.
 */
function searchCode(
  values: Float32Array,
  from: number,
  to: number,
  unit: number,
  importance: Float32Array,
  at: number,
): number {
  const extreme = largest(values, from, to) / 8;
  let best = 1;
  let bestError = Infinity;
  let previous = 0;
  for (const factor of FACTORS) {
    const magnitude = nearestCode(extreme * factor, unit);
    if (magnitude === previous) continue;
    previous = magnitude;
    for (let sign = -1; sign <= 1; sign += 2) {
      const scale = sign * magnitude * unit;
      const inverse = 1 / scale;
      let error = 0;
      for (let i = from; i < to && error < bestError; i++) {
        const value = values[i] ?? 0;
        const difference = value - scale * int4Level(value, inverse);
        error += difference * difference * (importance[at + i - from] ?? 1);
      }
      if (error < bestError) {
        bestError = error;
        best = sign * magnitude;
      }
    }
  }
  return best;
}

/**
 * Rounds each block with the scale that maps its largest magnitude to -8. Without statistics this choice is best:
 * scales of least squared error clip the largest weights, and their KL was 0.074 against 0.069.
 */
export const quantizeToNearest: Int4Quantizer = (data, k, block) => {
  const rows = data.length / k;
  const blocks = Math.ceil(k / block);
  const out = emptyInt4(rows, k, block);
  for (let r = 0; r < rows; r++) {
    const unit = int4Unit(data, r * k, (r + 1) * k);
    out.units[r] = unit;
    if (unit === 0) continue;
    for (let b = 0; b < blocks; b++) {
      const from = r * k + b * block;
      const to = Math.min(from + block, (r + 1) * k);
      let extreme = 0;
      for (let i = from; i < to; i++) if (Math.abs(data[i] ?? 0) > Math.abs(extreme)) extreme = data[i] ?? 0;
      const code = nearestCode(extreme / -8, unit);
      out.codes[r * blocks + b] = code;
      const inverse = 1 / (code * unit);
      const base = (r * blocks + b) * block - from;
      for (let i = from; i < to; i++) packInt4(out.q, base + i, int4Level(data[i] ?? 0, inverse));
    }
  }
  return out;
};

/** Share of the diagonal's mean that is added to the diagonal; it bounds the inverse of inputs that hardly vary. */
const DAMPING = 0.01;
/** Rows per pass: each row of the factor is read from memory once for all of them. */
const TILE_ROWS = 8;

/**
 * The upper factor U of the damped inverse, inverse(H) = U^T U, from the second moments H = X^T X [K, K]. V is upper
 * triangular with H = V V^T and is computed from the last column backwards; U is the inverse of V.
 */
export function inverseFactor(hessian: Float32Array, k: number): Float32Array {
  const v = Float64Array.from(hessian);
  let trace = 0;
  for (let i = 0; i < k; i++) trace += v[i * k + i] ?? 0;
  const damping = trace > 0 ? (DAMPING * trace) / k : 1;
  for (let i = 0; i < k; i++) v[i * k + i] = (v[i * k + i] ?? 0) + damping;
  for (let j = k - 1; j >= 0; j--) {
    const pivot = Math.sqrt(v[j * k + j] ?? NaN);
    if (!(pivot > 0))
      throw new ConvertError('the calibration has a matrix of second moments that is not positive definite');
    // Column j of V; the symmetric matrix holds it contiguously in row j.
    const column = v.subarray(j * k, j * k + j);
    for (let i = 0; i < j; i++) column[i] = (column[i] ?? 0) / pivot;
    v[j * k + j] = pivot;
    for (let i = 0; i < j; i++) {
      const factor = column[i] ?? 0;
      const row = v.subarray(i * k, i * k + i + 1);
      for (let c = 0; c <= i; c++) row[c] = (row[c] ?? 0) - factor * (column[c] ?? 0);
    }
  }
  // The lower triangle of v holds L = V^T, with H = L^T L. U^T = inverse(L) is lower triangular; compute it row by row.
  const inverse = new Float64Array(k * k);
  for (let i = 0; i < k; i++) {
    const row = inverse.subarray(i * k, i * k + k);
    for (let j = 0; j < i; j++) {
      const factor = v[i * k + j] ?? 0;
      const other = inverse.subarray(j * k, j * k + j + 1);
      for (let c = 0; c <= j; c++) row[c] = (row[c] ?? 0) - factor * (other[c] ?? 0);
    }
    const diagonal = v[i * k + i] ?? 1;
    for (let c = 0; c < i; c++) row[c] = (row[c] ?? 0) / diagonal;
    row[i] = 1 / diagonal;
  }
  const upper = new Float32Array(k * k);
  for (let i = 0; i < k; i++) for (let j = 0; j <= i; j++) upper[j * k + i] = inverse[i * k + j] ?? 0;
  return upper;
}

/** The quantizer for weights whose inputs have the inverse factor `upper` [K, K]. */
export function gptq(upper: Float32Array): Int4Quantizer {
  return (data, k, block) => {
    const rows = data.length / k;
    const blocks = Math.ceil(k / block);
    const out = emptyInt4(rows, k, block);
    const work = Float32Array.from(data);
    // Cost of rounding column i after the later columns are corrected: error^2 / U[i][i]^2.
    const importance = Float32Array.from({ length: k }, (_, i) => (upper[i * k + i] ?? 1) ** -2);
    for (let first = 0; first < rows; first += TILE_ROWS) {
      const last = Math.min(first + TILE_ROWS, rows);
      for (let r = first; r < last; r++) out.units[r] = int4Unit(data, r * k, (r + 1) * k);
      for (let b = 0; b < blocks; b++) {
        const from = b * block;
        const to = Math.min(from + block, k);
        for (let r = first; r < last; r++) {
          const unit = out.units[r] ?? 0;
          if (unit > 0) out.codes[r * blocks + b] = searchCode(work, r * k + from, r * k + to, unit, importance, from);
        }
        for (let j = from; j < to; j++) {
          const factors = upper.subarray(j * k, j * k + k);
          const pivot = factors[j] ?? 1;
          for (let r = first; r < last; r++) {
            const scale = (out.codes[r * blocks + b] ?? 0) * (out.units[r] ?? 0);
            if (scale === 0) continue;
            const row = work.subarray(r * k, r * k + k);
            const value = row[j] ?? 0;
            const level = int4Level(value, 1 / scale);
            packInt4(out.q, r * blocks * block + j, level);
            const error = (value - level * scale) / pivot;
            for (let c = j + 1; c < k; c++) row[c] = (row[c] ?? 0) - error * (factors[c] ?? 0);
          }
        }
      }
    }
    return out;
  };
}
