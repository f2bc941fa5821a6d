/**
 * The graphs around the stages: embed and head, which share one tensor where the model ties them.
 *
 * Knows: the embed and head contracts of model/manifest.ts. Must not know: source formats.
 */
import type { Architecture } from '../../model/manifest.js';
import { toHalf } from '../half.js';
import type { WeightStore } from '../output/weight-store.js';
import { quantizeBlocks8 } from '../quantize/int8.js';
import type { LinearWeight } from '../weight.js';
import { Graph, MICROSOFT } from './graph.js';
import { storeScales, useScales } from './scales.js';
import { storeFloats, type FloatType } from './vectors.js';

/** How a [V, H] matrix is stored: unquantized (null), or in blocks of columns with levels -levels..levels in bytes. */
export type VocabularyFormat = { block: number; levels: number } | null;

/** Stores a [V, H] matrix once. */
async function storeVocabulary(
  store: WeightStore,
  weight: LinearWeight,
  format: VocabularyFormat,
  floatType: FloatType,
): Promise<void> {
  const { name, n, k } = weight;
  if (format === null) {
    if (store.get(`${name}.weight`)) return;
    function* rows(): Iterable<ArrayBufferView> {
      for (const { data } of weight.pieces()) yield floatType === 'f16' ? toHalf(data) : data;
    }
    await store.add(`${name}.weight`, floatType, [n, k], rows());
    return;
  }
  if (store.get(`${name}.weight_q8`)) return;
  const { block, levels } = format;
  const blocks = Math.ceil(k / block);
  const codes = new Int8Array(n * blocks);
  const units = new Float32Array(n);
  function* quantized(): Iterable<Uint8Array> {
    for (const { start, data } of weight.pieces()) {
      const piece = quantizeBlocks8(data, k, block, levels);
      codes.set(piece.codes, start * blocks);
      units.set(piece.units, start);
      yield piece.q;
    }
  }
  await store.add(`${name}.weight_q8`, 'u8', [n, blocks, block], quantized());
  await storeScales(store, `${name}.scale_q8`, { codes, units });
}

/** ids -> hidden. */
export async function embedGraph(
  weight: LinearWeight,
  arch: Architecture,
  store: WeightStore,
  format: VocabularyFormat,
  floatType: FloatType,
): Promise<Graph> {
  await storeVocabulary(store, weight, format, floatType);
  const graph = new Graph('embed');
  graph.input('ids', 'i64', ['B', 'S']);
  graph.output('hidden', floatType, ['B', 'S', arch.hidden]);
  if (format === null) {
    graph.node('Gather', [graph.weight(store.require(`${weight.name}.weight`)), 'ids'], ['hidden']);
    return graph;
  }
  const { block } = format;
  // MatMulNBits wants [V, blocks, block] and scales [V, blocks]; read in the same shape, a row comes in blocks.
  const blocks = Math.ceil(arch.hidden / block);
  const scaleShape = graph.constant(
    'embed.scale_shape',
    'i64',
    [3],
    BigInt64Array.from([arch.vocab, blocks, 1], BigInt),
  );
  const scale = graph.node(
    'Reshape',
    [useScales(graph, store, `${weight.name}.scale_q8`), scaleShape],
    ['embed.scale'],
  );
  const gathered = graph.node(
    'GatherBlockQuantized',
    [graph.weight(store.require(`${weight.name}.weight_q8`)), 'ids', scale],
    ['embed.blocks'],
    { bits: 8, block_size: block, gather_axis: 0, quantize_axis: 2 },
    MICROSOFT,
  );
  const padded = blocks * block;
  const rowShape = graph.constant('embed.row_shape', 'i64', [3], BigInt64Array.from([0, 0, padded], BigInt));
  if (padded === arch.hidden) {
    graph.node('Reshape', [gathered, rowShape], ['hidden']);
    return graph;
  }
  const rows = graph.node('Reshape', [gathered, rowShape], ['embed.padded']);
  const index = (name: string, value: number) =>
    graph.constant(`embed.${name}`, 'i64', [1], BigInt64Array.of(BigInt(value)));
  graph.node('Slice', [rows, index('from', 0), index('to', arch.hidden), index('axis', 2)], ['hidden']);
  return graph;
}

/** hidden, norm -> logits. `norms` is the norm table, row by row. */
export async function headGraph(
  weight: LinearWeight,
  norms: Float32Array[],
  arch: Architecture,
  store: WeightStore,
  format: VocabularyFormat,
  floatType: FloatType,
): Promise<Graph> {
  await storeVocabulary(store, weight, format, floatType);
  const { hidden, vocab } = arch;
  const graph = new Graph('head');
  graph.input('hidden', floatType, ['N', hidden]);
  graph.input('norm', 'i64', ['N']);
  graph.output('logits', 'f32', ['N', vocab]);
  const ones = graph.weight(
    await storeFloats(store, 'head.ones', [hidden], floatType, () => new Float32Array(hidden).fill(1)),
  );
  const table = graph.weight(
    await storeFloats(store, 'head.norms', [norms.length, hidden], floatType, () =>
      Float32Array.from({ length: norms.length * hidden }, (_, i) => norms[Math.floor(i / hidden)]?.[i % hidden] ?? 0),
    ),
  );
  const unit = graph.node('SimplifiedLayerNormalization', ['hidden', ones], ['head.unit'], {
    axis: -1,
    epsilon: { float: arch.normEps },
  });
  const rows = graph.node('Gather', [table, 'norm'], ['head.norm_rows']);
  const normed = graph.node('Mul', [unit, rows], ['head.normed']);
  if (format !== null) {
    graph.node(
      'MatMulNBits',
      [
        normed,
        graph.weight(store.require(`${weight.name}.weight_q8`)),
        useScales(graph, store, `${weight.name}.scale_q8`),
      ],
      ['logits'],
      { K: hidden, N: vocab, bits: 8, block_size: format.block, accuracy_level: 4 },
      MICROSOFT,
    );
    return graph;
  }
  const product = [normed, graph.weight(store.require(`${weight.name}.weight`))];
  if (floatType === 'f32') {
    graph.node('Gemm', product, ['logits'], { transB: 1 });
    return graph;
  }
  const half = graph.node('Gemm', product, ['head.logits_f16'], { transB: 1 });
  graph.node('Cast', [half], ['logits'], { to: 1 });
  return graph;
}
