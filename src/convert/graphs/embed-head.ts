/** The graphs around the stages: embed and head. A model with a tied head stores their tensor once. */
import { type Architecture, stateWidth } from '../../engine/model/architecture.js';
import { DATA_TYPE } from '../../engine/model/onnx-proto.js';
import { toHalf } from '../weight.js';
import type { WeightStore } from '../output/weight-store.js';
import { quantizeBlocks8 } from '../quantize/int8.js';
import { PER_LAYER, type Tensors } from '../source.js';
import { type LinearWeight, linearWeight } from '../weight.js';
import { padded } from './state.js';
import { addLinear, blocksProduct, type KernelOptions, storeBlocks, useScales } from './linear.js';
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

/** Stores a matrix [N, K] in floats once. @param shape other dimensions with a product of N */
async function storeFloatRows(
  store: WeightStore,
  weight: LinearWeight,
  floatType: FloatType,
  shape: readonly number[] = [weight.n],
): Promise<void> {
  const { name, k } = weight;
  if (store.get(`${name}.weight`)) return;
  function* rows(): Iterable<ArrayBufferView> {
    for (const { data } of weight.pieces()) yield floatType === 'f16' ? toHalf(data) : data;
  }
  await store.add(`${name}.weight`, floatType, [...shape, k], rows());
}

/** A [V, H] matrix. `undo` [H] reverses its smoothing by channel; null if the matrix is not smoothed. */
export interface Vocabulary {
  readonly weight: LinearWeight;
  readonly undo: Float32Array | null;
}

/** The layers' own inputs (`Architecture.perLayer`): their tensors, and the kernel of their projection. */
export interface PerLayerWork {
  readonly source: Pick<Tensors, 'tensor'>;
  readonly kernel: KernelOptions;
}

/** ids -> states. */
export async function embedGraph(
  { weight, undo }: Vocabulary,
  work: VocabularyWork,
  perLayer: PerLayerWork,
): Promise<Graph> {
  const { arch, store, format, floatType, isPaged } = work;
  await storeVocabulary(weight, work);
  const graph = new Graph('embed');
  graph.input('ids', 'i64', isPaged ? ['T'] : ['B', 'S']);
  const width = stateWidth(arch);
  graph.output('hidden', floatType, isPaged ? ['T', width] : ['B', 'S', width]);
  const { embeddingScale } = arch;
  const stream = width === arch.hidden ? 'hidden' : 'embed.stream';
  const out = embeddingScale === 1 ? stream : 'embed.unscaled';
  switch (format.kind) {
    case 'floats':
      graph.node('Gather', [graph.weight(store.require(`${weight.name}.weight`)), 'ids'], [out]);
      break;
    case 'blocks':
      embedBlocks(graph, weight.name, work, format.block, out);
      break;
    case 'w8a8':
      bytesRows(graph, weight.name, store, undo === null ? out : 'embed.levelled');
      // A shared head may be smoothed.
      if (undo !== null)
        graph.node('Mul', ['embed.levelled', graph.constant('embed.undo', 'f32', [undo.length], undo)], [out]);
  }
  // A head that shares the tensor needs it without the multiplier.
  if (embeddingScale !== 1) graph.node('Mul', [out, floatConstant(graph, embeddingScale, floatType)], [stream]);
  if (stream === 'hidden') return graph;
  const { layers, perLayer: own = 0 } = arch;
  const parts = own === 0 ? [stream] : [stream, await perLayerInputs(graph, stream, work, perLayer)];
  padded(graph, parts, floatType, width - arch.hidden - layers * own, 'hidden');
  return graph;
}

/**
 * Adds the inputs of all layers, [..., L * P], from the embedding. A token reads one row of the table, so the table
 * stays in the mapped file: as floats, or as bytes with a scale for each layer of a row.
 */
async function perLayerInputs(
  graph: Graph,
  stream: string,
  { arch, store, format, floatType, isPaged }: VocabularyWork,
  { source, kernel }: PerLayerWork,
): Promise<string> {
  const { layers, perLayer: width = 0, normEps } = arch;
  const table = byLayer(linearWeight('per_layer.table', [source.tensor(PER_LAYER.table)]), layers);
  const shape = [arch.vocab, layers];
  let own = 'per_layer.rows';
  if (format.kind === 'floats') {
    await storeFloatRows(store, table, floatType, shape);
    graph.node('Gather', [graph.weight(store.require(`${table.name}.weight`)), 'ids'], [own]);
  } else {
    await storeRows(store, table, LEVELS, shape);
    bytesRows(graph, table.name, store, own);
    if (floatType === 'f16') own = graph.node('Cast', [own], ['per_layer.half'], { to: DATA_TYPE.f16 });
  }
  const places = isPaged ? [0] : [0, 0];
  const byLayers = graph.ints('per_layer.by_layer', ...places, layers, width);
  const joined = graph.ints('per_layer.joined', ...places, layers * width);
  const projection = linearWeight('per_layer.projection', [source.tensor(PER_LAYER.projection)]);
  const product = await addLinear(graph, store, stream, projection, kernel);
  const projected = graph.node('Reshape', [product, byLayers], ['per_layer.projected']);
  const norm = await storeFloats(store, 'per_layer.norm', [width], floatType, () =>
    source.tensor(PER_LAYER.norm).rows(0, 1),
  );
  const inputs = [projected, graph.weight(norm)];
  const epsilon = { float: normEps };
  const normed = graph.node('SimplifiedLayerNormalization', inputs, ['per_layer.normed'], { axis: -1, epsilon });
  return graph.node('Reshape', [graph.node('Add', [normed, own], ['per_layer.sum']), joined], ['per_layer.inputs']);
}

/** A table [V, L * P] as the rows [V * L, P] of its layers. */
function byLayer(table: LinearWeight, layers: number): LinearWeight {
  return {
    ...table,
    n: table.n * layers,
    k: table.k / layers,
    *pieces() {
      for (const { start, count, data } of table.pieces()) yield { start: start * layers, count: count * layers, data };
    },
  };
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

/** Adds the rows of the tokens, each times its scale. */
function bytesRows(graph: Graph, name: string, store: WeightStore, out: string): void {
  const { bytes, scales } = useBytes(graph, store, name);
  const rows = graph.node('Gather', [bytes, 'ids'], [`${out}.bytes`]);
  const floats = graph.node('Cast', [rows], [`${out}.floats`], { to: DATA_TYPE.f32 });
  const scale = graph.node('Gather', [scales, 'ids'], [`${out}.scales`]);
  const column = graph.node('Unsqueeze', [scale, graph.ints('embed.last', -1)], [`${out}.scale`]);
  graph.node('Mul', [floats, column], [out]);
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
  const width = stateWidth(arch);
  graph.input('hidden', floatType, ['N', width]);
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
  const states = width === hidden ? 'hidden' : firstOf(graph, 'hidden', hidden);
  const unit =
    arch.loops?.norm === 'final'
      ? graph.node('Mul', [states, undone], ['head.unit'])
      : graph.node('SimplifiedLayerNormalization', [states, undone], ['head.unit'], {
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

/** The residual stream of states [N, width]. */
function firstOf(graph: Graph, states: string, hidden: number): string {
  const [from, to] = [0, hidden].map((value) => graph.ints(`head.at_${value}`, value));
  return graph.node('Slice', [states, from ?? '', to ?? '', graph.ints('head.axis', 1)], ['head.hidden']);
}

/** Transposes the embedding's [V, H] to [H, V]; ONNX Runtime folds it into a constant at load. */
function turned(graph: Graph, { bytes, scales }: ByteWeight): ByteWeight {
  return { bytes: graph.node('Transpose', [bytes], [`${bytes}.turned`], { perm: [1, 0] }), scales };
}
