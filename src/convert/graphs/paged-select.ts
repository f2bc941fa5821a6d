/**
 * The graphs that choose tokens in a paged folder. All their nodes have kernels on GPUs, and each has one result, so
 * that one transfer brings it to the host.
 */
import { DATA_TYPE } from '../../engine/model/onnx-proto.js';
import { Graph } from '../../engine/model/onnx-graph.js';
import { topGraph, topKOf } from './select.js';

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
  const lse = logSumExp(graph, 'logits', most, axis, 'lse');
  const tempered = graph.node('Mul', ['logits', 'inv_temperature'], ['select.tempered']);
  const mostTempered = graph.node('Mul', [most, 'inv_temperature'], ['select.most_tempered']);
  const lseT = logSumExp(graph, tempered, mostTempered, axis, 'lse_t');
  const target = graph.node('GatherElements', ['logits', 'targets'], ['select.target'], { axis: 1 });
  const others = graph.node('Concat', [lse, lseT, target], ['select.others'], { axis: 1 });
  const widths = graph.ints('select.widths', 0, 0, 0, k - 3);
  const wide = graph.node('Pad', [others, widths], ['select.wide']);
  graph.node('Concat', ['top_values', ids, wide], ['selected'], { axis: 1 });
  return graph;
}

/** log-sum-exp of rows [N, V] without overflow, from each row's largest value. */
function logSumExp(graph: Graph, values: string, most: string, axis: string, name: string): string {
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
