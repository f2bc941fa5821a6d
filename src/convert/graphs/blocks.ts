/** Weights of 4 and 8 bits with a scale for each block of a row, in the layout of MatMulNBits. */
import type { WeightStore } from '../output/weight-store.js';
import type { CodedScales } from '../quantize/scale.js';
import type { LinearWeight } from '../weight.js';
import { MICROSOFT, type Graph } from '../../engine/model/onnx-graph.js';
import { DATA_TYPE } from '../../engine/model/onnx-proto.js';
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

/** Stores the scales of [N, blocks] blocks as `${name}.codes` and `${name}.units`. */
async function storeScales(store: WeightStore, name: string, { codes, units }: CodedScales): Promise<void> {
  const n = units.length;
  await store.add(`${name}.codes`, 'i8', [n, codes.length / n], [codes]);
  await store.add(`${name}.units`, 'f32', [n, 1], [units]);
}

/** Adds the scales as floats [N, blocks], a product that ONNX Runtime folds at load; returns their name. */
export function useScales(graph: Graph, store: WeightStore, name: string, floatType: FloatType): string {
  if (graph.produces(name)) return name;
  const codes = graph.weight(store.require(`${name}.codes`));
  const floats = graph.node('Cast', [codes], [`${name}.floats`], { to: DATA_TYPE.f32 });
  const units = graph.weight(store.require(`${name}.units`));
  if (floatType === 'f32') return graph.node('Mul', [floats, units], [name]);
  const product = graph.node('Mul', [floats, units], [`${name}.f32`]);
  return graph.node('Cast', [product], [name], { to: DATA_TYPE.f16 });
}
