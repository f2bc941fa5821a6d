/**
 * Rotary widths that the kernels lack. ONNX Runtime rotates a multiple of 16 channels of each head, and pairs channel i
 * with channel i + width / 2.
 *
 * For another width, channels of queries and keys take another order, the same in both, which leaves their products as
 * they are. The wider table has pairs that do not turn (cosine 1, sine 0), and channels beyond the model's width fill
 * them.
 */
import type { Architecture, Rotary } from '../engine/model/architecture.js';
import type { StageLayer } from './graphs/layer.js';
import { ropeTables } from './rope.js';
import { LAYER, type SourceTensor } from './tensors.js';

const STEP = 16;
const PARTS: readonly string[] = [LAYER.q, LAYER.k, LAYER.qBias, LAYER.kBias, LAYER.qNorm, LAYER.kNorm];

/** The least width of the kernels that has the model's. */
export function kernelWidth({ width }: Rotary): number {
  return Math.ceil(width / STEP) * STEP;
}

/** The source's channel at each place of a head; null for a width that the kernels have. */
export function channelOrder(rotary: Rotary, headDim: number): readonly number[] | null {
  const { width } = rotary;
  const wide = kernelWidth(rotary);
  if (wide === width) return null;
  const half = width / 2;
  let still = width;
  return Array.from({ length: headDim }, (_, place) => {
    const inHalf = place < wide ? place % (wide / 2) : Infinity;
    return inHalf < half ? inHalf + (place < wide / 2 ? 0 : half) : still++;
  });
}

/** Tables [context, kernelWidth / 2]. */
export function kernelTables(rotary: Rotary, context: number): { cos: Float32Array; sin: Float32Array } {
  const tables = ropeTables(rotary, context);
  const from = rotary.width / 2;
  const to = kernelWidth(rotary) / 2;
  if (from === to) return tables;
  const widened = (values: Float32Array, fill: number): Float32Array => {
    const out = new Float32Array(context * to).fill(fill);
    for (let p = 0; p < context; p++) out.set(values.subarray(p * from, (p + 1) * from), p * to);
    return out;
  };
  return { cos: widened(tables.cos, 1), sin: widened(tables.sin, 0) };
}

/** The layer with its queries and keys in the order of the kernels. */
export function orderedLayer(layer: StageLayer, arch: Architecture): StageLayer {
  const { source, prefix, kind, calibration } = layer;
  const rotary = kind.rotary === null ? undefined : arch.rotary[kind.rotary];
  const order = rotary === undefined ? null : channelOrder(rotary, arch.headDim);
  if (order === null) return layer;
  const tensor = (name: string): SourceTensor => {
    const found = source.tensor(name);
    return PARTS.includes(name.slice(prefix.length)) ? ordered(found, order) : found;
  };
  const kvRange = (channels: number) => {
    const range = calibration.kvRange(channels);
    return range && { ...range, k: reordered(range.k, 1, order) };
  };
  return { ...layer, source: { tensor }, calibration: { ...calibration, kvRange } };
}

/** A tensor [heads * head_dim, K] or [heads * head_dim], whose channels have another order within each head. */
function ordered(tensor: SourceTensor, order: readonly number[]): SourceTensor {
  const [, width] = tensor.shape;
  if (width === undefined) return { ...tensor, rows: () => reordered(tensor.rows(0, 1), 1, order) };
  const head = order.length;
  return {
    ...tensor,
    rows(start, count) {
      const first = start - (start % head);
      const whole = Math.ceil((start + count - first) / head) * head;
      const rows = reordered(tensor.rows(first, whole), width, order);
      return rows.slice((start - first) * width, (start - first + count) * width);
    },
  };
}

/** Rows of `width` values, in another order within each head. */
function reordered(values: Float32Array, width: number, order: readonly number[]): Float32Array {
  const out = new Float32Array(values.length);
  const head = order.length;
  for (let row = 0; row * width < values.length; row++) {
    const from = (row - (row % head) + (order[row % head] ?? NaN)) * width;
    out.set(values.subarray(from, from + width), row * width);
  }
  return out;
}
