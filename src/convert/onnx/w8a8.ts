/**
 * Weights and activations in bytes: how such a weight is stored, and the nodes of its product.
 *
 * Knows: the operators behind the kernel. Must not know: what the weight is for.
 */
import type { WeightStore } from '../output/weight-store.js';
import { quantizeRows, quantizeRowsTransposed } from '../quantize/int8.js';
import type { LinearWeight } from '../weight.js';
import { MICROSOFT, type Graph } from './graph.js';

/** A weight in a graph, by name: its bytes and its scales [N]. */
export interface ByteWeight {
  readonly bytes: string;
  readonly scales: string;
}

/**
 * Stores a weight [N, K] once, as int8 [K, N], which products read, and a scale for each of the N outputs.
 * @param levels on each side of zero, at most 127
 */
export async function storeColumns(store: WeightStore, weight: LinearWeight, levels: number): Promise<void> {
  const { name, n, k } = weight;
  if (store.get(bytesOf(name))) return;
  const matrix = new Int8Array(k * n);
  const scales = new Float32Array(n);
  for (const { start, count, data } of weight.pieces())
    quantizeRowsTransposed(data, { start, count, k, n }, matrix, scales, levels);
  await store.add(bytesOf(name), 'i8', [k, n], [matrix]);
  await store.add(scaleOf(name), 'f32', [n], [scales]);
}

/** The same as int8 [N, K]: a product has to turn it, but its rows lie together. */
export async function storeRows(store: WeightStore, weight: LinearWeight, levels: number): Promise<void> {
  const { name, n, k } = weight;
  if (store.get(bytesOf(name))) return;
  const scales = new Float32Array(n);
  function* rows(): Iterable<Int8Array> {
    for (const { start, count, data } of weight.pieces()) {
      const piece = new Int8Array(count * k);
      quantizeRows(data, k, piece, scales.subarray(start, start + count), levels);
      yield piece;
    }
  }
  await store.add(bytesOf(name), 'i8', [n, k], rows());
  await store.add(scaleOf(name), 'f32', [n], [scales]);
}

/** Adds a stored weight to a graph as it is stored. */
export function useBytes(graph: Graph, store: WeightStore, name: string): ByteWeight {
  return {
    bytes: graph.weight(store.require(bytesOf(name))),
    scales: graph.weight(store.require(scaleOf(name))),
  };
}

/**
 * Adds y = x W^T of a weight whose bytes are [K, N]; returns `out`.
 *
 * Activations are scaled per row by their largest magnitude and rounded to bytes around 128: the weight is read as
 * int8, the products run in integers, and no row's result depends on another row. A row of zeros stays zero: its
 * quotients are NaN, which round to some finite byte, and its maximum of 0 multiplies the result.
 */
export function w8a8Product(graph: Graph, x: string, weight: ByteWeight, out: string): string {
  const unit = graph.constant('w8a8.unit', 'f32', [], Float32Array.of(1 / 127));
  const zero = graph.constant('w8a8.zero', 'u8', [], Uint8Array.of(128));
  const { bytes, max } = quantizeActivation(graph, x, unit, zero);
  const product = graph.node(
    'MatMulIntegerToFloat',
    [bytes, weight.bytes, unit, weight.scales, zero],
    [`${out}.scaled`],
    {},
    MICROSOFT,
  );
  return graph.node('Mul', [product, max], [out]);
}

/** One quantization serves every product that reads x. */
function quantizeActivation(graph: Graph, x: string, unit: string, zero: string): { bytes: string; max: string } {
  const bytes = `${x}.bytes`;
  const max = `${x}.max`;
  if (!graph.produces(bytes)) {
    const axis = graph.constant('w8a8.axis', 'i64', [1], BigInt64Array.of(-1n));
    graph.node('Abs', [x], [`${x}.abs`]);
    graph.node('ReduceMax', [`${x}.abs`, axis], [max], { keepdims: 1 });
    graph.node('Div', [x, max], [`${x}.unit`]);
    graph.node('QuantizeLinear', [`${x}.unit`, unit, zero], [bytes]);
  }
  return { bytes, max };
}

const bytesOf = (name: string): string => `${name}.weight_q8`;
const scaleOf = (name: string): string => `${name}.scale_q8`;
