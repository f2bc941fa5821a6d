/** The store of hidden states that the graphs of a paged folder share: they read and write rows of it by index. */
import type { Architecture } from '../../model/architecture.js';
import type { Graph } from './graph.js';
import type { FloatType } from './vectors.js';

/** Adds the store, and the rows that the graph writes. */
export function storeInputs(graph: Graph, { hidden }: Architecture, floatType: FloatType): void {
  graph.input('store', floatType, ['R', hidden]);
  graph.input('rows_out', 'i64', ['T', 1]);
  graph.output('store_out', floatType, ['R', hidden]);
}

/** Writes states [T, H] to their rows. Input and output are bound to the same memory, so no other row moves. */
export function scatterStates(graph: Graph, states: string): void {
  graph.node('ScatterND', ['store', 'rows_out', states], ['store_out']);
}
