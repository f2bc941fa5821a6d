/** Weights and activations in bytes: the storage of a weight, and the nodes of its product. */
import type { WeightStore } from '../output/weight-store.js';
import { quantizeRows, quantizeRowsTransposed } from '../quantize/int8.js';
import type { LinearWeight } from '../weight.js';
import { MICROSOFT, type Graph } from '../../engine/model/onnx-graph.js';

/** Names of a weight in a graph: its bytes and its scales [N]. */
export interface ByteWeight {
  readonly bytes: string;
  readonly scales: string;
}

/**
 * Stores a weight [N, K] once, as int8 [K, N] with a scale for each of the N outputs. Products read this layout.
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

/** Stores a weight [N, K] once, as int8 [N, K]: its rows are contiguous, but a product has to transpose it. */
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

/** Adds a stored weight to a graph. */
export function useBytes(graph: Graph, store: WeightStore, name: string): ByteWeight {
  return {
    bytes: graph.weight(store.require(bytesOf(name))),
    scales: graph.weight(store.require(scaleOf(name))),
  };
}

/**
 * Adds y = x W^T for a weight in bytes [K, N]; returns `out`.
 *
 * Each row of x is scaled by its largest magnitude and rounded to bytes around 128, so rows do not depend on each
 * other. The products run in integers. A row of zeros stays zero: its quotients are NaN and round to some finite byte,
 * but its maximum of 0 multiplies the result.
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

/** Adds the bytes of x once; all products that read x share them. */
function quantizeActivation(graph: Graph, x: string, unit: string, zero: string): { bytes: string; max: string } {
  const bytes = `${x}.bytes`;
  const max = `${x}.max`;
  if (!graph.produces(bytes)) {
    const axis = graph.ints('w8a8.axis', -1);
    graph.node('Abs', [x], [`${x}.abs`]);
    graph.node('ReduceMax', [`${x}.abs`, axis], [max], { keepdims: 1 });
    graph.node('Div', [x, max], [`${x}.unit`]);
    graph.node('QuantizeLinear', [`${x}.unit`, unit, zero], [bytes]);
  }
  return { bytes, max };
}

const bytesOf = (name: string): string => `${name}.weight_q8`;
const scaleOf = (name: string): string => `${name}.scale_q8`;
