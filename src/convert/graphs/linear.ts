/** A linear layer in each kernel: stores its weight once and adds its nodes to a graph. */
import type { KernelName } from '../../engine/model/manifest.js';
import type { WeightStore } from '../output/weight-store.js';
import type { Int4Quantizer } from '../quantize/int4.js';
import { quantizeBlocks8 } from '../quantize/int8.js';
import { toHalf } from '../half.js';
import type { LinearWeight } from '../weight.js';
import { blocksProduct, storeBlocks } from './blocks.js';
import type { Graph } from '../../engine/model/onnx-graph.js';
import { storeColumns, useBytes, w8a8Product } from './w8a8.js';

/** Weights per scale of int4, w8a16 and w4a16. */
const BLOCK = 32;

export interface KernelOptions {
  kernel: KernelName;
  /** Levels of w8a8 and w8a16 weights on each side of zero, at most 127. */
  levels: number;
  /** Returns the quantizer to 4 bits for a weight of width k; called only for a weight that is not stored yet. */
  quantizer: (k: number) => Int4Quantizer;
}

/** Adds y = x W^T for x [..., K]; returns the name of y. */
export async function addLinear(
  graph: Graph,
  store: WeightStore,
  x: string,
  weight: LinearWeight,
  options: KernelOptions,
): Promise<string> {
  const { kernel, levels, quantizer } = options;
  const { name, k } = weight;
  switch (kernel) {
    case 'int4':
    case 'w4a16': {
      const format = { bits: 4, block: BLOCK } as const;
      await storeBlocks(store, weight, format, () => {
        const quantize = quantizer(k);
        return (rows) => quantize(rows, k, BLOCK);
      });
      return blocksProduct(graph, store, x, weight, format, kernel === 'int4' ? 'f32' : 'f16', `${name}.out`);
    }
    case 'w8a16': {
      const format = { bits: 8, block: BLOCK } as const;
      await storeBlocks(store, weight, format, () => (rows) => quantizeBlocks8(rows, k, BLOCK, levels));
      return blocksProduct(graph, store, x, weight, format, 'f16', `${name}.out`);
    }
    case 'w8a8':
      await storeColumns(store, weight, levels);
      return w8a8Product(graph, x, useBytes(graph, store, name), `${name}.out`);
    case 'fp32':
    case 'fp16':
      return plain(graph, store, x, weight, kernel);
  }
}

async function plain(
  graph: Graph,
  store: WeightStore,
  x: string,
  weight: LinearWeight,
  kernel: 'fp32' | 'fp16',
): Promise<string> {
  const { name, n, k } = weight;
  const w = `${name}.weight`;
  if (!store.get(w)) {
    const matrix = kernel === 'fp32' ? new Float32Array(k * n) : new Uint16Array(k * n);
    for (const { start, count, data } of weight.pieces()) {
      const rows = kernel === 'fp32' ? data : toHalf(data);
      for (let r = 0; r < count; r++) for (let c = 0; c < k; c++) matrix[c * n + start + r] = rows[r * k + c] ?? 0;
    }
    await store.add(w, kernel === 'fp32' ? 'f32' : 'f16', [k, n], [matrix]);
  }
  return graph.node('MatMul', [x, graph.weight(store.require(w))], [`${name}.out`]);
}
