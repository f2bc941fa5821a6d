/** Builds one ONNX graph node by node. */
import {
  DATA_TYPE,
  encodeModel,
  type Attribute,
  type DataType,
  type Node,
  type Tensor,
  type ValueInfo,
} from './onnx-proto.js';
import { externalData, type ExternalTensor } from './onnx-weights.js';

/** ONNX Runtime's own operators: fused attention, norms, low-bit products. */
export const MICROSOFT = 'com.microsoft';
/** Newest versions that ONNX Runtime 1.20 and later can read. */
const OPSET = 21;
const IR_VERSION = 10;

type AttributeValue = number | { float: number } | string | number[];
type Dim = number | string;

export class Graph {
  readonly #nodes: Node[] = [];
  readonly #initializers = new Map<string, Tensor>();
  readonly #inputs: ValueInfo[] = [];
  readonly #outputs: ValueInfo[] = [];
  readonly #produced = new Set<string>();
  readonly #name: string;

  constructor(name: string) {
    this.#name = name;
  }

  input(name: string, type: DataType, dims: Dim[]): string {
    this.#inputs.push(valueInfo(name, type, dims));
    return name;
  }

  output(name: string, type: DataType, dims: Dim[]): void {
    this.#outputs.push(valueInfo(name, type, dims));
  }

  /** Adds a node and returns its first output. An empty name leaves out an optional output. */
  node(
    op: string,
    inputs: string[],
    outputs: string[],
    attributes: Record<string, AttributeValue> = {},
    domain = '',
  ): string {
    const [first = ''] = outputs;
    for (const output of outputs) this.#produced.add(output);
    this.#nodes.push({
      name: `${first}/${op}`,
      op_type: op,
      domain,
      input: inputs,
      output: outputs,
      attribute: Object.entries(attributes).map(([name, value]) => attribute(name, value)),
    });
    return first;
  }

  /** Whether a node has this output. */
  produces(output: string): boolean {
    return this.#produced.has(output);
  }

  /** Adds a small initializer to the graph file. */
  constant(name: string, type: DataType, dims: number[], data: ArrayBufferView): string {
    const raw = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    this.#initializers.set(name, { name, data_type: DATA_TYPE[type], dims, raw_data: raw });
    return name;
  }

  /** Adds a vector of whole numbers, i64. */
  ints(name: string, ...values: number[]): string {
    return this.constant(name, 'i64', [values.length], BigInt64Array.from(values, BigInt));
  }

  /** Adds an initializer that lies in a weight file. */
  weight({ name, dtype, dims, location, offset, length }: ExternalTensor): string {
    const place = externalData({ location, offset, length });
    this.#initializers.set(name, { name, data_type: DATA_TYPE[dtype], dims, ...place });
    return name;
  }

  /** The serialized model. */
  encode(): Uint8Array {
    return encodeModel({
      ir_version: IR_VERSION,
      producer_name: 'sortie',
      opset_import: [
        { domain: '', version: OPSET },
        { domain: MICROSOFT, version: 1 },
      ],
      graph: {
        name: this.#name,
        node: this.#nodes,
        initializer: [...this.#initializers.values()],
        input: this.#inputs,
        output: this.#outputs,
      },
    });
  }
}

function valueInfo(name: string, type: DataType, dims: Dim[]): ValueInfo {
  const dim = dims.map((d) => (typeof d === 'number' ? { dim_value: d } : { dim_param: d }));
  return { name, type: { tensor_type: { elem_type: DATA_TYPE[type], shape: { dim } } } };
}

function attribute(name: string, value: AttributeValue): Attribute {
  if (typeof value === 'number') return { name, type: 'INT', i: value };
  if (typeof value === 'string') return { name, type: 'STRING', s: new TextEncoder().encode(value) };
  if (Array.isArray(value)) return { name, type: 'INTS', ints: value };
  return { name, type: 'FLOAT', f: value.float };
}
