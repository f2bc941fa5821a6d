/** Coded scales in a graph: a node multiplies codes by units, and ONNX Runtime folds it at load. */
import { DATA_TYPE } from '../../model/onnx-proto.js';
import type { WeightStore } from '../output/weight-store.js';
import type { CodedScales } from '../quantize/scale.js';
import type { Graph } from '../../model/onnx-graph.js';
import type { FloatType } from './vectors.js';

/** Stores the scales of [N, blocks] blocks as `${name}.codes` and `${name}.units`. */
export async function storeScales(store: WeightStore, name: string, { codes, units }: CodedScales): Promise<void> {
  const n = units.length;
  await store.add(`${name}.codes`, 'i8', [n, codes.length / n], [codes]);
  await store.add(`${name}.units`, 'f32', [n, 1], [units]);
}

/** Adds the scales as floats [N, blocks]; returns their name. */
export function useScales(graph: Graph, store: WeightStore, name: string, floatType: FloatType): string {
  if (graph.produces(name)) return name;
  const codes = graph.weight(store.require(`${name}.codes`));
  const floats = graph.node('Cast', [codes], [`${name}.floats`], { to: DATA_TYPE.f32 });
  const units = graph.weight(store.require(`${name}.units`));
  if (floatType === 'f32') return graph.node('Mul', [floats, units], [name]);
  const product = graph.node('Mul', [floats, units], [`${name}.f32`]);
  return graph.node('Cast', [product], [name], { to: DATA_TYPE.f16 });
}
