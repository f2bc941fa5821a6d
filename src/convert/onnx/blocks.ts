/** Weights of 4 and 8 bits with a scale for each block of a row, in the layout of MatMulNBits. */
import type { WeightStore } from '../output/weight-store.js';
import type { CodedScales } from '../quantize/scale.js';
import type { LinearWeight } from '../weight.js';
import { MICROSOFT, type Graph } from '../../model/onnx-graph.js';
import { storeScales, useScales } from './scales.js';
import type { FloatType } from './vectors.js';

export interface BlockFormat {
  readonly bits: 4 | 8;
  /** Weights per scale. */
  readonly block: number;
}

/**
 * Stores a [N, K] matrix once.
 * @param quantizer returns the quantizer of whole rows; called only for a matrix that is not stored yet
 */
export async function storeBlocks(
  store: WeightStore,
  weight: LinearWeight,
  { bits, block }: BlockFormat,
  quantizer: () => (rows: Float32Array) => CodedScales & { q: Uint8Array },
): Promise<void> {
  const { name, n, k } = weight;
  if (store.get(`${name}.weight_q${bits}`)) return;
  const blocks = Math.ceil(k / block);
  const codes = new Int8Array(n * blocks);
  const units = new Float32Array(n);
  const quantize = quantizer();
  function* quantized(): Iterable<Uint8Array> {
    for (const { start, data } of weight.pieces()) {
      const piece = quantize(data);
      codes.set(piece.codes, start * blocks);
      units.set(piece.units, start);
      yield piece.q;
    }
  }
  await store.add(`${name}.weight_q${bits}`, 'u8', [n, blocks, (block * bits) / 8], quantized());
  await storeScales(store, `${name}.scale_q${bits}`, { codes, units });
}

/** Adds out = x W^T for a stored matrix; returns `out`. */
export function blocksProduct(
  graph: Graph,
  store: WeightStore,
  x: string,
  { name, n, k }: LinearWeight,
  { bits, block }: BlockFormat,
  floatType: FloatType,
  out: string,
): string {
  const bytes = graph.weight(store.require(`${name}.weight_q${bits}`));
  const scales = useScales(graph, store, `${name}.scale_q${bits}`, floatType);
  // On the CPU, level 4 rounds x to bytes: the fast kernels. On a GPU it would cost precision, and x stays in f16.
  const level = floatType === 'f32' ? { accuracy_level: 4 } : {};
  return graph.node(
    'MatMulNBits',
    [x, bytes, scales],
    [out],
    { K: k, N: n, bits, block_size: block, ...level },
    MICROSOFT,
  );
}
