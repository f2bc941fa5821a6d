/** The hidden states of a paged folder's boundaries: a stage reads rows of one store, and writes rows of the next. */
import type { Architecture } from '../../model/architecture.js';
import type { Graph } from '../../model/onnx-graph.js';
import type { FloatType } from './vectors.js';

/** Adds both stores with their rows, and gathers the states [T, H] of the positions; returns their name. */
export function gatherStates(graph: Graph, { hidden }: Architecture, floatType: FloatType): string {
  graph.input('store', floatType, ['R', hidden]);
  graph.input('next', floatType, ['R1', hidden]);
  graph.input('rows_in', 'i64', ['T']);
  graph.input('rows_out', 'i64', ['T', 1]);
  graph.output('next_out', floatType, ['R1', hidden]);
  return graph.node('Gather', ['store', 'rows_in'], ['hidden'], { axis: 0 });
}

/** Writes states [T, H] to their rows. Input and output are bound to the same memory, so no other row moves. */
export function scatterStates(graph: Graph, states: string): void {
  graph.node('ScatterND', ['next', 'rows_out', states], ['next_out']);
}
