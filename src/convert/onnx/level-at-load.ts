/**
 * Levelling in the graph instead of in the weight files: nodes that ONNX Runtime folds into constants when it loads the
 * graph. The stored weights stay as they are; columns are rounded once more, to all 8 bits.
 *
 * Knows: w8a8's stored weights. Must not know: how factors are chosen.
 */
import type { Graph } from './graph.js';

/** Adds a norm's weights (or a product's scales) divided by factors; returns their name. */
export function dividedAtLoad(graph: Graph, vector: string, factors: Float32Array): string {
  const divisors = graph.constant(`${vector}.factors`, 'f32', [factors.length], factors);
  return graph.node('Div', [vector, divisors], [`${vector}.levelled`]);
}

/**
 * Adds int8 weights [K, N] with a scale per column n of y = x W, their rows k multiplied by factors [K]; returns the
 * names of the new weights and scales.
 */
export function multipliedAtLoad(
  graph: Graph,
  weight: string,
  scale: string,
  factors: Float32Array,
): { weight: string; scale: string } {
  const levels = graph.constant('level.levels', 'f32', [], Float32Array.of(127));
  const axis = graph.constant('level.axis', 'i64', [1], BigInt64Array.of(0n));
  const column = graph.constant(`${weight}.factors`, 'f32', [factors.length, 1], factors);
  const floats = graph.node('Cast', [weight], [`${weight}.floats`], { to: FLOAT });
  const wide = graph.node('Mul', [floats, column], [`${weight}.wide`]);
  const sizes = graph.node('Abs', [wide], [`${weight}.sizes`]);
  const most = graph.node('ReduceMax', [sizes, axis], [`${weight}.most`], { keepdims: 0 });
  const unit = graph.node('Div', [most, levels], [`${weight}.unit`]);
  const units = graph.node('Div', [wide, unit], [`${weight}.units`]);
  const rounded = graph.node('Round', [units], [`${weight}.rounded`]);
  return {
    weight: graph.node('Cast', [rounded], [`${weight}.levelled`], { to: INT8 }),
    scale: graph.node('Mul', [scale, unit], [`${scale}.levelled`]),
  };
}

/** ONNX's numbers of the types. */
const FLOAT = 1;
const INT8 = 3;
