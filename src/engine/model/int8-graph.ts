/**
 * The `int8` kernel of a stage: its w8a8 graph with products for few rows.
 *
 * MatMulNBits rounds its input itself, to bytes with a scale for each block of a row, so a layer has a third of w8a8's
 * nodes. It reads a weight at the speed of memory, but multiplies many rows at a third of w8a8's rate. The weights are
 * those of w8a8 to the bit, in another order: a copy that the engine makes at load.
 */
import { decodeModel, encodeModel, DATA_TYPE, type Model, type Node, type Tensor } from './onnx-proto.js';
import { MICROSOFT } from './onnx-graph.js';
import { externalData, placeOf, type Placed } from './onnx-weights.js';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Device } from '../runtime/device.js';
import type { Environment } from '../runtime/environment.js';
import { Session, type WeightFiles } from '../runtime/session.js';
import { weightBytes } from './weight-files.js';

/** Weights of a block. Blocks of 128 sum one row in another order than several rows. */
const BLOCK = 64;
/** The byte of a zero weight. */
const ZERO = 128;
/** File name of the reordered weights in the graph. */
export const INT8_FILE = 'int8.bin';

/** Reads the bytes of an initializer of the w8a8 graph. */
export type TensorBytes = (place: Placed) => Uint8Array;

export interface Int8Graph {
  readonly graph: Uint8Array;
  /** Content of INT8_FILE. */
  readonly weights: Uint8Array;
}

/** All weights of the result lie in INT8_FILE. @param w8a8 the serialized graph */
export function int8Graph(w8a8: Uint8Array, read: TensorBytes): Int8Graph {
  const model = decodeModel(w8a8);
  const { graph } = model;
  const products = byteProducts(model);
  const file = new WeightFile();
  const bytesOf = (tensor: Tensor): Uint8Array => {
    const { location = '', ...place } = placeOf(tensor);
    return read({ location, ...place });
  };
  const nodes = new Map<Node, Node | null>();
  const replaced = new Set<string>();
  for (const product of products) {
    const { x, node, weight, scales, scaled } = product;
    const [k = 0, n = 0] = weight.dims;
    const blocks = Math.ceil(k / BLOCK);
    const packed = `${weight.name}.blocks`;
    const spread = `${scales.name}.blocks`;
    if (!replaced.has(weight.name)) {
      graph.initializer.push(
        file.add(packed, 'u8', [n, blocks, BLOCK], blocksOf(bytesOf(weight), k, n)),
        file.add(spread, 'f32', [n, blocks], repeated(bytesOf(scales), blocks)),
      );
      replaced.add(weight.name);
    }
    const attribute = Object.entries({ K: k, N: n, bits: 8, block_size: BLOCK, accuracy_level: 4 }).map(
      ([name, i]) => ({ name, type: 'INT' as const, i }),
    );
    const output = scaled.output;
    const name = `${output[0] ?? ''}/MatMulNBits`;
    nodes.set(node, { name, op_type: 'MatMulNBits', domain: MICROSOFT, input: [x, packed, spread], output, attribute });
    nodes.set(scaled, null);
  }
  graph.node = graph.node.flatMap((node) => nodes.get(node) ?? (nodes.has(node) ? [] : [node]));
  removeUnused(model);
  graph.initializer = graph.initializer.map((tensor) => {
    if (tensor.data_location !== 'EXTERNAL' || placeOf(tensor).location === INT8_FILE) return tensor;
    return { ...tensor, ...file.place(bytesOf(tensor)) };
  });
  return { graph: encodeModel(model), weights: file.bytes() };
}

/** A product in bytes as convert/graphs/w8a8.ts writes it. */
interface ByteProduct {
  /** Input in floats. */
  readonly x: string;
  readonly node: Node;
  /** i8 [K, N]. */
  readonly weight: Tensor;
  /** f32 [N]. */
  readonly scales: Tensor;
  /** The product's only reader, which multiplies by each row's largest magnitude. */
  readonly scaled: Node;
}

function byteProducts({ graph }: Model): ByteProduct[] {
  const initializers = new Map(graph.initializer.map((tensor) => [tensor.name, tensor]));
  const producer = new Map(graph.node.flatMap((node) => node.output.map((output) => [output, node] as const)));
  return graph.node.flatMap((node): ByteProduct[] => {
    const [bytes = '', weightName = '', , scalesName = ''] = node.input;
    if (node.op_type !== 'MatMulIntegerToFloat') return [];
    const weight = initializers.get(weightName);
    const scales = initializers.get(scalesName);
    const readers = graph.node.filter(({ input }) => input.includes(node.output[0] ?? ''));
    const [scaled] = readers;
    const quantize = producer.get(bytes);
    const divide = producer.get(quantize?.input[0] ?? '');
    const [x] = divide?.input ?? [];
    const known =
      quantize?.op_type === 'QuantizeLinear' &&
      divide?.op_type === 'Div' &&
      scaled?.op_type === 'Mul' &&
      readers.length === 1;
    return known && weight && scales && x !== undefined ? [{ x, node, weight, scales, scaled }] : [];
  });
}

/** Drops nodes without a reader, from the last to the first, and initializers without one. */
function removeUnused({ graph }: Model): void {
  const read = new Set(graph.output.map(({ name }) => name));
  graph.node = graph.node
    .toReversed()
    .filter(({ input, output }) => {
      if (!output.some((name) => read.has(name))) return false;
      for (const name of input) read.add(name);
      return true;
    })
    .toReversed();
  graph.initializer = graph.initializer.filter(({ name }) => read.has(name));
}

/** i8 [K, N] to bytes around ZERO [N, blocks, BLOCK]; the last block of a column is filled up with zeros. */
function blocksOf(columns: Uint8Array, k: number, n: number): Uint8Array {
  const width = Math.ceil(k / BLOCK) * BLOCK;
  const out = new Uint8Array(n * width).fill(ZERO);
  // Tiles of 64 rows and columns stay in the cache, whichever way they are walked.
  for (let row = 0; row < k; row += BLOCK)
    for (let column = 0; column < n; column += BLOCK) {
      const rows = Math.min(k, row + BLOCK);
      const columnsEnd = Math.min(n, column + BLOCK);
      for (let c = column; c < columnsEnd; c++)
        // A flip of the sign bit adds 128 to a signed byte.
        for (let r = row; r < rows; r++) out[c * width + r] = (columns[r * n + c] ?? 0) ^ ZERO;
    }
  return out;
}

/** Repeats each of the floats [N] for the blocks of its column. */
function repeated(bytes: Uint8Array, blocks: number): Uint8Array {
  // A copy, because the bytes may lie at an odd address. Buffer's own slice would not copy.
  const scales = new Float32Array(Uint8Array.from(bytes).buffer);
  const out = new Float32Array(scales.length * blocks);
  scales.forEach((scale, column) => out.fill(scale, column * blocks, (column + 1) * blocks));
  return new Uint8Array(out.buffer);
}

/** Collects tensors of one file. */
class WeightFile {
  readonly #parts: Uint8Array[] = [];
  #length = 0;

  add(name: string, type: 'u8' | 'f32', dims: number[], data: Uint8Array): Tensor {
    return { name, data_type: DATA_TYPE[type], dims, ...this.place(data) };
  }

  /** Appends bytes and returns their external-data entry. */
  place(data: Uint8Array): ReturnType<typeof externalData> {
    const place = externalData({ location: INT8_FILE, offset: this.#length, length: data.length });
    this.#parts.push(data);
    this.#length += data.length;
    return place;
  }

  /** Every tensor is a multiple of 4 bytes long, so floats are aligned. */
  bytes(): Uint8Array {
    return Buffer.concat(this.#parts);
  }
}

/**
 * @param file name of the w8a8 graph in the folder
 * @param weights the folder's compressed weight files in memory; others are read from the folder
 * @throws OrtError if ONNX Runtime rejects the graph
 */
export function int8Session(
  environment: Environment,
  device: Device,
  dir: string,
  file: string,
  weights: WeightFiles,
): Session {
  const bytesOf = (place: Placed): Uint8Array => weightBytes(dir, weights, place);
  const made = int8Graph(readFileSync(join(dir, file)), bytesOf);
  return new Session(environment, device, made.graph, {
    weights: new Map([[INT8_FILE, made.weights]]),
    accumulateInt32: false,
  });
}
