/**
 * A stage's graph for the WebGPU provider, whose attention has no norms of queries and keys: nodes before it compute
 * them.
 */
import { type Attribute, DATA_TYPE, decodeModel, encodeModel, type Node, type Tensor } from './onnx-proto.js';

/** Places of the norms among the inputs of PagedAttention. */
const Q_NORM = 12;
const K_NORM = 13;
const EPSILON = 'qk_norm_epsilon';

/** @returns null for a graph without such norms, which the provider takes as it is */
export function webgpuGraph(stage: Uint8Array): Uint8Array | null {
  const model = decodeModel(stage);
  const { graph } = model;
  const initializers = new Map(graph.initializer.map((tensor) => [tensor.name, tensor]));
  const before = graph.node.length;
  graph.node = graph.node.flatMap((node) => {
    const [norm, other] = [Q_NORM, K_NORM].map((place) => initializers.get(node.input[place] ?? ''));
    if (node.op_type !== 'PagedAttention' || norm === undefined || other === undefined) return [node];
    const { nodes, constants } = normalized(node, norm, other);
    for (const tensor of constants) if (!initializers.has(tensor.name)) initializers.set(tensor.name, tensor);
    return nodes;
  });
  graph.initializer = [...initializers.values()];
  return graph.node.length > before ? encodeModel(model) : null;
}

/** Separates queries, keys and values before an attention node, and normalizes each head of the first two. */
function normalized(node: Node, qNorm: Tensor, kNorm: Tensor): { nodes: Node[]; constants: Tensor[] } {
  const [qkv = ''] = node.input;
  const [dim = 0] = qNorm.dims;
  const heads = intOf(node, 'num_heads');
  const kvHeads = intOf(node, 'kv_num_heads');
  const epsilon = node.attribute.find(({ name }) => name === EPSILON)?.f;
  if (epsilon === undefined) throw new RangeError(`${node.name} has no ${EPSILON}`);
  const constants = new Map<string, Tensor>();
  const shape = (...dims: number[]): string => {
    const name = `webgpu.${dims.join('x')}`;
    const raw = new Uint8Array(BigInt64Array.from(dims, BigInt).buffer);
    constants.set(name, { name, data_type: DATA_TYPE.i64, dims: [dims.length], raw_data: raw });
    return name;
  };
  const make = (op_type: string, input: string[], output: string[], attribute: Attribute[] = []): Node => ({
    name: `${output[0] ?? ''}/${op_type}`,
    op_type,
    domain: '',
    input,
    output,
    attribute,
  });
  const axis: Attribute = { name: 'axis', type: 'INT', i: -1 };
  const parts = ['q', 'k', 'v'].map((part) => `${qkv}.${part}`);
  const [q = '', k = '', v = ''] = parts;
  const byHead = (x: string, scale: Tensor, count: number): Node[] => [
    make('Reshape', [x, shape(0, count, dim)], [`${x}.heads`]),
    make(
      'SimplifiedLayerNormalization',
      [`${x}.heads`, scale.name],
      [`${x}.normed`],
      [axis, { name: 'epsilon', type: 'FLOAT', f: epsilon }],
    ),
    make('Reshape', [`${x}.normed`, shape(0, count * dim)], [`${x}.joined`]),
  ];
  const input = [`${q}.joined`, `${k}.joined`, v, ...node.input.slice(3)];
  input[Q_NORM] = input[K_NORM] = '';
  const nodes = [
    make('Split', [qkv, shape(heads * dim, kvHeads * dim, kvHeads * dim)], parts, [axis]),
    ...byHead(q, qNorm, heads),
    ...byHead(k, kNorm, kvHeads),
    { ...node, input, attribute: node.attribute.filter(({ name }) => name !== EPSILON) },
  ];
  return { nodes, constants: [...constants.values()] };
}

function intOf({ name, attribute }: Node, which: string): number {
  const value = attribute.find((each) => each.name === which)?.i;
  if (value === undefined) throw new RangeError(`${name} has no ${which}`);
  return value;
}
