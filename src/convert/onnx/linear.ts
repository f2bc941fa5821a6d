/** A linear layer in each kernel: stores its weight once and adds its nodes to a graph. */
import type { KernelName } from '../../model/manifest.js';
import type { WeightStore } from '../output/weight-store.js';
import type { Int4Quantizer } from '../quantize/int4.js';
import { toHalf } from '../half.js';
import type { LinearWeight } from '../weight.js';
import { MICROSOFT, type Graph } from './graph.js';
import { storeScales, useScales } from './scales.js';
import { storeColumns, useBytes, w8a8Product } from './w8a8.js';

export interface KernelOptions {
  kernel: KernelName;
  /** Weights per scale of int4. */
  block: number;
  /** Levels of w8a8 weights on each side of zero, at most 127. */
  levels: number;
  /** Returns int4's quantizer for a weight of width k; called only for a weight that is not stored yet. */
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
  const { kernel } = options;
  switch (kernel) {
    case 'int4':
      return int4(graph, store, x, weight, options);
    case 'w8a8':
      await storeColumns(store, weight, options.levels);
      return w8a8Product(graph, x, useBytes(graph, store, weight.name), `${weight.name}.out`);
    case 'fp32':
    case 'fp16':
      return plain(graph, store, x, weight, kernel);
  }
}

async function int4(
  graph: Graph,
  store: WeightStore,
  x: string,
  weight: LinearWeight,
  { block, quantizer }: KernelOptions,
): Promise<string> {
  const { name, n, k } = weight;
  const blocks = Math.ceil(k / block);
  const q = `${name}.weight_q4`;
  const scale = `${name}.scale_q4`;
  if (!store.get(q)) {
    const codes = new Int8Array(n * blocks);
    const units = new Float32Array(n);
    const quantize = quantizer(k);
    function* quantized(): Iterable<Uint8Array> {
      for (const { start, data } of weight.pieces()) {
        const piece = quantize(data, k, block);
        codes.set(piece.codes, start * blocks);
        units.set(piece.units, start);
        yield piece.q;
      }
    }
    await store.add(q, 'u8', [n, blocks, block / 2], quantized());
    await storeScales(store, scale, { codes, units });
  }
  return graph.node(
    'MatMulNBits',
    [x, graph.weight(store.require(q)), useScales(graph, store, scale)],
    [`${name}.out`],
    { K: k, N: n, bits: 4, block_size: block, accuracy_level: 4 },
    MICROSOFT,
  );
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
