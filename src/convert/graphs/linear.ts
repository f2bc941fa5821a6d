/**
 * Weights in each kernel: floats, blocks of 4 and 8 bits with a scale each, and bytes whose inputs are bytes too. A
 * weight is stored once; graphs add the nodes of its product.
 */
import type { KernelName } from '../../engine/model/manifest.js';
import { MICROSOFT, type Graph } from '../../engine/model/onnx-graph.js';
import { DATA_TYPE, type DataType } from '../../engine/model/onnx-proto.js';
import type { ExternalTensor } from '../../engine/model/onnx-weights.js';
import type { WeightStore } from '../output/weight-store.js';
import type { Int4Quantizer } from '../quantize/int4.js';
import { quantizeBlocks8, quantizeRows, quantizeRowsTransposed, type CodedRows } from '../quantize/int8.js';
import { toHalf, type LinearWeight } from '../weight.js';

export type FloatType = Extract<DataType, 'f32' | 'f16'>;

/** Stores floats once under a name. */
export async function storeFloats(
  store: WeightStore,
  name: string,
  dims: number[],
  floatType: FloatType,
  values: () => Float32Array,
): Promise<ExternalTensor> {
  const known = store.get(name);
  if (known) return known;
  const floats = values();
  return store.add(name, floatType, dims, [floatType === 'f16' ? toHalf(floats) : floats]);
}

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
  quantizer: () => (rows: Float32Array) => CodedRows,
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
async function storeScales(
  store: WeightStore,
  name: string,
  { codes, units }: Pick<CodedRows, 'codes' | 'units'>,
): Promise<void> {
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

/**
 * Stores a weight [N, K] once, as int8 [N, K]: its rows are contiguous, but a product has to transpose it.
 * @param shape other dimensions with a product of N
 */
export async function storeRows(
  store: WeightStore,
  weight: LinearWeight,
  levels: number,
  shape: readonly number[] = [weight.n],
): Promise<void> {
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
  await store.add(bytesOf(name), 'i8', [...shape, k], rows());
  await store.add(scaleOf(name), 'f32', [...shape], [scales]);
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
