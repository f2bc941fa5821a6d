/**
 * The graphs that reduce logits to the host's needs: select (top k, log-sum-exp, targets) and argmax. In a paged folder
 * all nodes have kernels on GPUs, and each graph has one result, so that one transfer brings it to the host.
 */
import { DATA_TYPE } from '../../engine/model/onnx-proto.js';
import { Graph } from '../../engine/model/onnx-graph.js';

/**
 * Logits further than this below a row's largest one are raised. The exponentials of the kernel below e^-87 are
 * denormal numbers, which processors add ten times slower, and a low temperature makes most of the vocabulary such. A
 * million raised logits add e^-66 to the sum.
 */
const DEPTH = 80;

/** More candidates than samplers use in practice, and few enough to copy for every row. */
const MAX_TOP_K = 64;

export const topKOf = (vocab: number): number => Math.min(MAX_TOP_K, vocab);

/** A graph that finds the k largest logits: logits, inv_temperature, targets -> top_values, top_ids. */
function topGraph(vocab: number, k: number): Graph {
  const graph = new Graph('select');
  graph.input('logits', 'f32', ['N', vocab]);
  graph.input('inv_temperature', 'f32', ['N', 1]);
  graph.input('targets', 'i64', ['N', 1]);
  const count = graph.ints('select.k', k);
  graph.node('TopK', ['logits', count], ['top_values', 'top_ids'], { axis: 1, largest: 1, sorted: 1 });
  return graph;
}

/** logits, inv_temperature, targets -> top_values, top_ids, lse, lse_t, target_values. */
export function selectGraph(vocab: number): Graph {
  const k = topKOf(vocab);
  const graph = topGraph(vocab, k);
  graph.output('top_values', 'f32', ['N', k]);
  graph.output('top_ids', 'i64', ['N', k]);
  graph.output('lse', 'f32', ['N', 1]);
  graph.output('lse_t', 'f32', ['N', 1]);
  graph.output('target_values', 'f32', ['N', 1]);
  const axis = graph.ints('select.axis', 1);
  const start = graph.ints('select.start', 0);
  const end = graph.ints('select.end', 1);
  const best = graph.node('Slice', ['top_ids', start, end, axis], ['select.best']);
  logSumExp(graph, 'logits', best, 'lse');
  graph.node('Mul', ['logits', 'inv_temperature'], ['select.tempered']);
  logSumExp(graph, raised(graph, 'select.tempered', best), best, 'lse_t');
  graph.node('GatherElements', ['logits', 'targets'], ['target_values'], { axis: 1 });
  return graph;
}

/** Raises values [N, V] to DEPTH below each row's largest one. @param best ids [N, 1] */
function raised(graph: Graph, values: string, best: string): string {
  const depth = graph.constant('select.depth', 'f32', [], Float32Array.of(DEPTH));
  const largest = graph.node('GatherElements', [values, best], [`${values}.largest`], { axis: 1 });
  return graph.node('Max', [values, graph.node('Sub', [largest, depth], [`${values}.floor`])], [`${values}.raised`]);
}

/**
 * log-sum-exp of rows [N, V], from LogSoftmax at each row's largest value, x - lse. Its CPU kernel is vectorized;
 * ReduceLogSumExp took 1.6 ms for 16 rows of 49,152.
 */
function logSumExp(graph: Graph, values: string, best: string, output: string): void {
  const largest = graph.node('GatherElements', [values, best], [`${output}.largest`], { axis: 1 });
  const shares = graph.node('LogSoftmax', [values], [`${output}.shares`], { axis: 1 });
  const share = graph.node('GatherElements', [shares, best], [`${output}.share`], { axis: 1 });
  graph.node('Sub', [largest, share], [output]);
}

/**
 * logits -> ids; the first id wins among equal logits. If the vocabulary divides into blocks, two steps replace ArgMax:
 * ReduceMax of each block, which is vectorized on CPU, then ArgMax over the blocks and inside the best block.
 */
export function argmaxGraph(vocab: number): Graph {
  const graph = new Graph('argmax');
  graph.input('logits', 'f32', ['N', vocab]);
  graph.output('ids', 'i64', ['N']);
  const block = ARGMAX_BLOCKS.find((size) => vocab % size === 0);
  if (block === undefined) {
    graph.node('ArgMax', ['logits'], ['ids'], { axis: 1, keepdims: 0 });
    return graph;
  }
  const ints = (name: string, ...values: number[]): string => graph.ints(`argmax.${name}`, ...values);
  const blocks = graph.node('Reshape', ['logits', ints('blocked', 0, vocab / block, block)], ['argmax.blocks']);
  const most = graph.node('ReduceMax', [blocks, ints('last', 2)], ['argmax.most'], { keepdims: 0 });
  const best = graph.node('ArgMax', [most], ['argmax.best'], { axis: 1, keepdims: 1 });
  const inside = graph.node('GatherND', [blocks, best], ['argmax.block'], { batch_dims: 1 });
  const offset = graph.node('ArgMax', [inside], ['argmax.offset'], { axis: 1, keepdims: 0 });
  const row = graph.node('Squeeze', [best, ints('second', 1)], ['argmax.row']);
  const first = graph.node('Mul', [row, ints('size', block)], ['argmax.first']);
  graph.node('Add', [first, offset], ['ids']);
  return graph;
}

/** Block sizes in order of preference; near the square root of the vocabulary both steps are short. */
const ARGMAX_BLOCKS = [256, 128, 64, 32];

/**
 * logits, inv_temperature, targets -> selected [N, 3K]: values, ids, then lse, lse_t, target value and zeros. Parts of
 * equal widths: CUDA's Concat copies tables of other widths to the GPU in each run.
 */
export function pagedSelectGraph(vocab: number): Graph {
  const k = topKOf(vocab);
  const graph = topGraph(vocab, k);
  graph.output('selected', 'f32', ['N', 3 * k]);
  // Ids stay exact in f32 below 2^24.
  const ids = graph.node('Cast', ['top_ids'], ['select.ids'], { to: DATA_TYPE.f32 });
  const axis = graph.ints('select.axis', 1);
  const start = graph.ints('select.start', 0);
  const end = graph.ints('select.end', 1);
  const most = graph.node('Slice', ['top_values', start, end, axis], ['select.most']);
  const lse = pagedLogSumExp(graph, 'logits', most, axis, 'lse');
  const tempered = graph.node('Mul', ['logits', 'inv_temperature'], ['select.tempered']);
  const mostTempered = graph.node('Mul', [most, 'inv_temperature'], ['select.most_tempered']);
  const lseT = pagedLogSumExp(graph, tempered, mostTempered, axis, 'lse_t');
  const target = graph.node('GatherElements', ['logits', 'targets'], ['select.target'], { axis: 1 });
  const others = graph.node('Concat', [lse, lseT, target], ['select.others'], { axis: 1 });
  const widths = graph.ints('select.widths', 0, 0, 0, k - 3);
  const wide = graph.node('Pad', [others, widths], ['select.wide']);
  graph.node('Concat', ['top_values', ids, wide], ['selected'], { axis: 1 });
  return graph;
}

/** log-sum-exp of rows [N, V] without overflow, from each row's largest value. */
function pagedLogSumExp(graph: Graph, values: string, most: string, axis: string, name: string): string {
  const shares = graph.node('Exp', [graph.node('Sub', [values, most], [`${name}.below`])], [`${name}.shares`]);
  const total = graph.node('ReduceSum', [shares, axis], [`${name}.total`], { keepdims: 1 });
  return graph.node('Add', [graph.node('Log', [total], [`${name}.log`]), most], [name]);
}

/** logits -> ids; the first id wins among equal logits. */
export function pagedArgmaxGraph(vocab: number): Graph {
  const graph = new Graph('argmax');
  graph.input('logits', 'f32', ['N', vocab]);
  graph.output('ids', 'i64', ['N']);
  graph.node('ArgMax', ['logits'], ['ids'], { axis: 1, keepdims: 0 });
  return graph;
}

/** logits, places, amounts -> lowered: adds the amounts at the places, in the same memory. */
export function lowerGraph(vocab: number): Graph {
  const graph = new Graph('lower');
  graph.input('logits', 'f32', ['N', vocab]);
  graph.input('places', 'i64', ['n', 2]);
  graph.input('amounts', 'f32', ['n']);
  graph.output('lowered', 'f32', ['N', vocab]);
  graph.node('ScatterND', ['logits', 'places', 'amounts'], ['lowered'], { reduction: 'add' });
  return graph;
}
