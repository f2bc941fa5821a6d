/** The graphs around the stages: embed and head. A model with a tied head stores their tensor once. */
import type { Architecture } from '../../engine/model/architecture.js';
import { DATA_TYPE } from '../../engine/model/onnx-proto.js';
import { toHalf } from '../weight.js';
import type { WeightStore } from '../output/weight-store.js';
import { quantizeBlocks8 } from '../quantize/int8.js';
import type { LinearWeight } from '../weight.js';
import { blocksProduct, storeBlocks, useScales } from './linear.js';
import { Graph, MICROSOFT } from '../../engine/model/onnx-graph.js';
import { storeFloats, type FloatType } from './linear.js';
import { storeRows, useBytes, w8a8Product, type ByteWeight } from './linear.js';

/**
 * Storage of a [V, H] matrix:
 * - floats;
 * - blocks: bytes with levels -127..127 and a scale for each block of columns, fastest for few rows;
 * - w8a8: bytes with a scale for each token, for w8a8's product. 16 rows take a third of the time of blocks.
 */
export type VocabularyFormat =
  { readonly kind: 'floats' } | { readonly kind: 'blocks'; readonly block: number } | { readonly kind: 'w8a8' };

/** Levels on each side of zero: all that a byte has. */
const LEVELS = 127;

/** How embedding and head are stored. */
export interface VocabularyWork {
  readonly arch: Architecture;
  readonly store: WeightStore;
  readonly format: VocabularyFormat;
  readonly floatType: FloatType;
  readonly isPaged: boolean;
}

/** Stores a [V, H] matrix once. */
async function storeVocabulary(weight: LinearWeight, { store, format, floatType }: VocabularyWork): Promise<void> {
  switch (format.kind) {
    case 'floats':
      await storeFloatRows(store, weight, floatType);
      return;
    case 'blocks':
      await storeBlocks(store, weight, { bits: 8, block: format.block }, () => {
        return (rows) => quantizeBlocks8(rows, weight.k, format.block, LEVELS);
      });
      return;
    case 'w8a8':
      await storeRows(store, weight, LEVELS);
  }
}

async function storeFloatRows(store: WeightStore, weight: LinearWeight, floatType: FloatType): Promise<void> {
  const { name, n, k } = weight;
  if (store.get(`${name}.weight`)) return;
  function* rows(): Iterable<ArrayBufferView> {
    for (const { data } of weight.pieces()) yield floatType === 'f16' ? toHalf(data) : data;
  }
  await store.add(`${name}.weight`, floatType, [n, k], rows());
}

/** A [V, H] matrix. `undo` [H] reverses its smoothing by channel; null if the matrix is not smoothed. */
export interface Vocabulary {
  readonly weight: LinearWeight;
  readonly undo: Float32Array | null;
}

/** ids -> hidden. */
export async function embedGraph({ weight, undo }: Vocabulary, work: VocabularyWork): Promise<Graph> {
  const { arch, store, format, floatType, isPaged } = work;
  await storeVocabulary(weight, work);
  const graph = new Graph('embed');
  graph.input('ids', 'i64', isPaged ? ['T'] : ['B', 'S']);
  graph.output('hidden', floatType, isPaged ? ['T', arch.hidden] : ['B', 'S', arch.hidden]);
  const { embeddingScale } = arch;
  const out = embeddingScale === 1 ? 'hidden' : 'embed.unscaled';
  switch (format.kind) {
    case 'floats':
      graph.node('Gather', [graph.weight(store.require(`${weight.name}.weight`)), 'ids'], [out]);
      break;
    case 'blocks':
      embedBlocks(graph, weight.name, work, format.block, out);
      break;
    case 'w8a8':
      embedBytes(graph, weight.name, undo, store, out);
  }
  // A head that shares the tensor needs it without the multiplier.
  if (embeddingScale !== 1) graph.node('Mul', [out, floatConstant(graph, embeddingScale, floatType)], ['hidden']);
  return graph;
}

function floatConstant(graph: Graph, value: number, floatType: FloatType): string {
  const floats = Float32Array.of(value);
  return graph.constant('embed.multiplier', floatType, [], floatType === 'f16' ? toHalf(floats) : floats);
}

/** MatMulNBits needs [V, blocks, block] and scales [V, blocks]; the gathered rows keep that shape until the end. */
function embedBlocks(graph: Graph, name: string, work: VocabularyWork, block: number, out: string): void {
  const { arch, store, floatType, isPaged } = work;
  const blocks = Math.ceil(arch.hidden / block);
  const scales = useScales(graph, store, `${name}.scale_q8`, floatType);
  const scaleShape = graph.ints('embed.scale_shape', arch.vocab, blocks, 1);
  const scale = graph.node('Reshape', [scales, scaleShape], ['embed.scale']);
  const gathered = graph.node(
    'GatherBlockQuantized',
    [graph.weight(store.require(`${name}.weight_q8`)), 'ids', scale],
    ['embed.blocks'],
    { bits: 8, block_size: block, gather_axis: 0, quantize_axis: 2 },
    MICROSOFT,
  );
  const padded = blocks * block;
  // Zeros keep the dimensions of positions.
  const dims = isPaged ? [0, padded] : [0, 0, padded];
  const isPadded = padded > arch.hidden;
  const rowShape = graph.ints('embed.row_shape', ...dims);
  const rows = graph.node('Reshape', [gathered, rowShape], [isPadded ? 'embed.padded' : out]);
  if (!isPadded) return;
  const from = graph.ints('embed.from', 0);
  const to = graph.ints('embed.to', arch.hidden);
  graph.node('Slice', [rows, from, to, graph.ints('embed.axis', dims.length - 1)], [out]);
}

/** Multiplies each row by its token's scale, and reverses the smoothing of a shared head. */
function embedBytes(graph: Graph, name: string, undo: Float32Array | null, store: WeightStore, out: string): void {
  const weight = useBytes(graph, store, name);
  const rows = graph.node('Gather', [weight.bytes, 'ids'], ['embed.rows']);
  const floats = graph.node('Cast', [rows], ['embed.floats'], { to: DATA_TYPE.f32 });
  const last = graph.ints('embed.last', -1);
  const scales = graph.node('Gather', [weight.scales, 'ids'], ['embed.scales']);
  const column = graph.node('Unsqueeze', [scales, last], ['embed.scale']);
  const scaled = graph.node('Mul', [floats, column], [undo === null ? out : 'embed.levelled']);
  if (undo !== null) graph.node('Mul', [scaled, graph.constant('embed.undo', 'f32', [undo.length], undo)], [out]);
}

/**
 * hidden, norm -> logits. `norms` are the rows of the norm table. States of loops that end with the norm have it
 * already, and then the only row is ones.
 */
export async function headGraph(
  { weight, undo }: Vocabulary,
  norms: readonly Float32Array[],
  work: VocabularyWork,
): Promise<Graph> {
  const { arch, store, format, floatType } = work;
  await storeVocabulary(weight, work);
  const { hidden, vocab } = arch;
  const graph = new Graph('head');
  graph.input('hidden', floatType, ['N', hidden]);
  graph.input('norm', 'i64', ['N']);
  graph.output('logits', 'f32', ['N', vocab]);
  const undone = graph.weight(
    await storeFloats(store, 'head.undo', [hidden], floatType, () => undo ?? new Float32Array(hidden).fill(1)),
  );
  const table = graph.weight(
    await storeFloats(store, 'head.norms', [norms.length, hidden], floatType, () =>
      Float32Array.from({ length: norms.length * hidden }, (_, i) => norms[Math.floor(i / hidden)]?.[i % hidden] ?? 0),
    ),
  );
  // Norm weights are gathered per row below, so this normalization only reverses the head's smoothing.
  const unit =
    arch.loops?.norm === 'final'
      ? graph.node('Mul', ['hidden', undone], ['head.unit'])
      : graph.node('SimplifiedLayerNormalization', ['hidden', undone], ['head.unit'], {
          axis: -1,
          epsilon: { float: arch.normEps },
        });
  const rows = graph.node('Gather', [table, 'norm'], ['head.norm_rows']);
  const normed = graph.node('Mul', [unit, rows], ['head.normed']);
  const out = arch.logitSoftcap === null ? 'logits' : 'head.unbounded';
  const product = floatType === 'f32' ? out : 'head.logits_f16';
  switch (format.kind) {
    case 'w8a8':
      w8a8Product(graph, normed, turned(graph, useBytes(graph, store, weight.name)), out);
      break;
    case 'blocks':
      blocksProduct(graph, store, normed, weight, { bits: 8, block: format.block }, floatType, product);
      break;
    case 'floats':
      graph.node('Gemm', [normed, graph.weight(store.require(`${weight.name}.weight`))], [product], { transB: 1 });
  }
  if (product !== out) graph.node('Cast', [product], [out], { to: DATA_TYPE.f32 });
  if (arch.logitSoftcap !== null) bounded(graph, out, arch.logitSoftcap);
  return graph;
}

/** Adds the logits c * tanh(x / c). */
function bounded(graph: Graph, x: string, bound: number): void {
  const c = graph.constant('head.bound', 'f32', [], Float32Array.of(bound));
  const share = graph.node('Tanh', [graph.node('Div', [x, c], ['head.share'])], ['head.bounded']);
  graph.node('Mul', [share, c], ['logits']);
}

/** Transposes the embedding's [V, H] to [H, V]; ONNX Runtime folds it into a constant at load. */
function turned(graph: Graph, { bytes, scales }: ByteWeight): ByteWeight {
  return { bytes: graph.node('Transpose', [bytes], [`${bytes}.turned`], { perm: [1, 0] }), scales };
}
