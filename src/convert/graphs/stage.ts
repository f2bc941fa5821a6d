/** The graph of one stage: decoder layers between two boundaries, with their KV cache. See engine/model/manifest.ts. */
import { type Architecture, stateWidth } from '../../engine/model/architecture.js';
import type { WeightStore } from '../output/weight-store.js';
import { kernelTables, kernelWidth } from '../rope.js';
import type { Part } from '../source.js';
import { toHalf } from '../weight.js';
import { attention, type StageValues } from './attention.js';
import { Graph, MICROSOFT } from '../../engine/model/onnx-graph.js';
import { DATA_TYPE } from '../../engine/model/onnx-proto.js';
import { LayerBuilder, type StageLayer, type StageOptions } from './layer.js';
import { closeState, openState, type State } from './state.js';
import { storeFloats, type FloatType } from './linear.js';

/** The layers of a graph, and how they are stored. */
export interface StageWork {
  /** Of the graph. */
  readonly name: string;
  readonly layers: readonly StageLayer[];
  readonly arch: Architecture;
  readonly store: WeightStore;
  readonly options: StageOptions;
}

/** A graph without nodes, builders of its layers, and its rotary tables. */
export interface StageStart {
  readonly graph: Graph;
  readonly builds: readonly LayerBuilder[];
  readonly rotary: StageValues['rotary'];
}

export async function startGraph(work: StageWork): Promise<StageStart> {
  const { name, layers, store, options } = work;
  const graph = new Graph(name);
  const builds = layers.map((layer, i) => new LayerBuilder(graph, store, options, layer, i));
  return { graph, builds, rotary: await rotaryTables(graph, work) };
}

/** Builds the graph and stores tensors that are not stored yet. Calls `done` after each layer. */
export async function stageGraph(work: StageWork, done: () => void): Promise<Graph> {
  const { arch, options } = work;
  const { graph, builds, rotary } = await startGraph(work);
  const state = openState(graph, arch, builds[0]?.layer.place ?? 0, stageInputs(graph, arch, options));
  const growth = arch.queryGrowth && queryGrowth(graph, arch.queryGrowth, options.floatType);
  const values = { rotary, queryGrowth: growth, shared: state.shared };
  await addLayers(builds, state, (build, x) => attention(build, x, values), done);
  return graph;
}

/**
 * Adds decoder layers, and the output of their stage.
 * @param state of the positions
 * @param attend adds the attention of a layer over x; returns its output, without the residual
 * @param done called after each layer
 */
export async function addLayers(
  builds: readonly LayerBuilder[],
  state: State,
  attend: (build: LayerBuilder, x: string) => Promise<string>,
  done: () => void,
): Promise<void> {
  const [first] = builds;
  if (first === undefined) throw new RangeError('a stage needs a layer');
  const { graph, arch, store, options } = first;
  const stream = new Residual(state.hidden);
  for (const build of builds) {
    const attended = await attend(build, await stream.input(build, 'attn_norm', 'attnNorm'));
    await stream.add(build, attended, 'attn_out_norm', 'attnOutNorm');
    const out = await mlp(build, await stream.input(build, 'mlp_norm', 'mlpNorm'));
    await stream.add(build, out, 'mlp_out_norm', 'mlpOutNorm');
    if (arch.perLayer !== undefined) {
      const given = await perLayer(build, stream.sum(build, 'mlp'), state.perLayer.get(build.layer.place) ?? '');
      await stream.add(build, given, 'per_layer_norm', 'perLayerNorm');
    }
    if (arch.layerScale) stream.scale(build, await build.vector('scale', 'layerScale'));
    done();
  }
  const { loopNorm, isPaged, floatType } = options;
  const scale =
    loopNorm && (await storeFloats(store, 'loop.norm', [arch.hidden], floatType, () => loopNorm.rows(0, 1)));
  const out = isPaged ? 'states' : 'hidden_out';
  const isPlain = stateWidth(arch) === arch.hidden;
  stream.end(first, scale && graph.weight(scale), isPlain ? out : 'stream');
  if (!isPlain) closeState(builds.at(-1) ?? first, state, out);
  // Input and output are bound to the same memory, so no other row moves.
  if (isPaged) graph.node('ScatterND', ['next', 'rows_out', 'states'], ['next_out']);
}

/** Adds the inputs and the output of a stage. @returns the states of its positions */
export function stageInputs(graph: Graph, arch: Architecture, { isPaged, floatType }: StageOptions): string {
  return isPaged ? pagedInputs(graph, arch, floatType) : slotInputs(graph, arch, floatType);
}

/** Adds the inputs and the output of a stage whose KV cache has slots. */
function slotInputs(graph: Graph, arch: Architecture, floatType: FloatType): string {
  graph.input('hidden', floatType, ['B', 'S', stateWidth(arch)]);
  graph.input('seqlens_k', 'i32', ['B']);
  graph.input('total_len', 'i32', [1]);
  graph.output('hidden_out', floatType, ['B', 'S', stateWidth(arch)]);
  return 'hidden';
}

/**
 * Adds those of a stage whose KV cache has pages. It reads rows of one store of hidden states, and writes rows of the
 * next.
 * @returns the states [T, H] of its positions
 */
function pagedInputs(graph: Graph, arch: Architecture, floatType: FloatType): string {
  const width = stateWidth(arch);
  graph.input('cumulative', 'i32', ['B1']);
  graph.input('pasts', 'i32', ['B']);
  graph.input('table', 'i32', ['B', 'M']);
  graph.input('bounds', 'i32', [3]);
  graph.input('next', floatType, ['R1', width]);
  graph.input('rows_out', 'i64', ['T', 1]);
  graph.output('next_out', floatType, ['R1', width]);
  return gatherStates(graph, width, floatType);
}

/** Adds the rows of a store that a graph reads. @returns the states [T, width] */
export function gatherStates(graph: Graph, width: number, floatType: FloatType): string {
  graph.input('store', floatType, ['R', width]);
  graph.input('rows_in', 'i64', ['T']);
  return graph.node('Gather', ['store', 'rows_in'], ['hidden'], { axis: 0 });
}

/** Adds the rotary tables of the layers' kinds. The first one is `rope`, as in folders with one table. */
async function rotaryTables(
  graph: Graph,
  { layers, arch, store, options: { floatType } }: StageWork,
): Promise<StageValues['rotary']> {
  const tables = new Map<number, readonly [string, string]>();
  for (const [index, rotary] of arch.rotary.entries()) {
    if (!layers.some(({ kind }) => kind.rotary === index)) continue;
    const name = index === 0 ? 'rope' : `rope.${index}`;
    const dims = [arch.context, kernelWidth(rotary) / 2];
    const table = (part: 'cos' | 'sin') =>
      storeFloats(store, `${name}.${part}`, dims, floatType, () => kernelTables(rotary, arch.context)[part]);
    tables.set(index, [graph.weight(await table('cos')), graph.weight(await table('sin'))]);
  }
  return tables;
}

/** The residual stream. It holds back the last output, so that the next norm adds it in one node. */
class Residual {
  #sum: string;
  #pending: string | null = null;

  constructor(start: string) {
    this.#sum = start;
  }

  /** The input of attention or MLP. */
  async input(build: LayerBuilder, label: string, part: Part): Promise<string> {
    const out = `${build.id}.${label}.out`;
    const sum = `${build.id}.${label}.sum`;
    const pending = this.#pending;
    this.#pending = null;
    if (build.arch.norms === 'post') {
      if (pending !== null) this.#sum = build.graph.node('Add', [this.#sum, pending], [sum]);
      return this.#sum;
    }
    const scale = await build.vector(label, part);
    if (pending === null) return build.norm(this.#sum, scale, out);
    this.#normed(build, pending, scale, [out, '', '', sum]);
    this.#sum = sum;
    return out;
  }

  /** Adds an output of attention or MLP. */
  async add(build: LayerBuilder, output: string, label: string, part: Part): Promise<void> {
    this.#pending =
      build.arch.norms === 'pre'
        ? output
        : build.norm(output, await build.vector(label, part), `${build.id}.${label}.out`);
  }

  /** The sum of the stream and its outputs so far. */
  sum({ graph, id }: LayerBuilder, label: string): string {
    if (this.#pending !== null) this.#sum = graph.node('Add', [this.#sum, this.#pending], [`${id}.${label}.sum`]);
    this.#pending = null;
    return this.#sum;
  }

  /** Multiplies the sum. */
  scale(build: LayerBuilder, factor: string): void {
    this.#sum = build.graph.node('Mul', [this.sum(build, 'layer'), factor], [`${build.id}.scaled`]);
  }

  /** Adds the last output under a name. @param scale of a norm behind it; null for none */
  end(build: LayerBuilder, scale: string | null, out: string): void {
    const pending = this.#pending;
    if (pending === null) build.graph.node('Identity', [this.#sum], [out]);
    else if (scale === null) build.graph.node('Add', [this.#sum, pending], [out]);
    else this.#normed(build, pending, scale, [out]);
  }

  /** Adds an output to the sum, and normalizes it. */
  #normed({ graph, arch }: LayerBuilder, output: string, scale: string, outputs: string[]): void {
    const epsilon = { float: arch.normEps };
    graph.node('SkipSimplifiedLayerNormalization', [this.#sum, output, scale], outputs, { epsilon }, MICROSOFT);
  }
}

/** Adds the gated MLP over x; returns the name of its output, without the residual. */
async function mlp(build: LayerBuilder, x: string): Promise<string> {
  const { graph, id } = build;
  const gate = await build.linear('gate', x, build.tensor('gate'));
  const up = await build.linear('up', x, build.tensor('up'));
  const { activation } = build.arch;
  const out =
    build.options.isPaged && activation === 'silu'
      ? gatedSilu(build, gate, up)
      : graph.node('Mul', [activated(build, gate, id), up], [`${id}.mlp.out`]);
  return build.linear('down', out, build.tensor('down'));
}

/** Adds what the layer takes of its own input of the token, without the residual. */
async function perLayer(build: LayerBuilder, x: string, own: string): Promise<string> {
  const { graph, id } = build;
  const gate = await build.plainLinear(`${id}.per_layer_gate`, x, build.tensor('perLayerGate'));
  const out = graph.node('Mul', [activated(build, gate, `${id}.per_layer`), own], [`${id}.per_layer.out`]);
  return build.plainLinear(`${id}.per_layer_up`, out, build.tensor('perLayerUp'));
}

/** Scale of the norm of `gatedSilu`: the largest power of two in f16. Its square is the epsilon. */
const NORM_SCALE = 2 ** 15;

/**
 * SiLU(gate) * up in one kernel of a GPU. The operator also divides by sqrt(mean(up^2) + epsilon) and multiplies by a
 * scale. With these values both cancel: up to an rms of 256 the result is within 2^-15, and one rounding of f16 is
 * 2^-11.
 */
function gatedSilu({ graph, id, arch }: LayerBuilder, gate: string, up: string): string {
  const width = [1024, 512, 256, 128, 64, 32, 16, 8].find((each) => arch.ffn % each === 0) ?? 1;
  const floats = toHalf(new Float32Array(width).fill(NORM_SCALE));
  const scale = graph.constant('mlp.norm_scale', 'f16', [width], floats);
  const epsilon = { float: NORM_SCALE ** 2 };
  return graph.node('GatedRMSNorm', [up, scale, gate], [`${id}.mlp.out`], { epsilon }, MICROSOFT);
}

function activated({ graph, arch }: LayerBuilder, gate: string, name: string): string {
  switch (arch.activation) {
    case 'silu':
      // x * sigmoid(alpha x) with alpha 1 is SiLU, in one node.
      return graph.node('QuickGelu', [gate], [`${name}.silu.out`], { alpha: { float: 1 } }, MICROSOFT);
    case 'gelu_tanh':
      return graph.node('FastGelu', [gate], [`${name}.gelu.out`], {}, MICROSOFT);
  }
}

/**
 * Adds the multipliers of queries that grow with the position, from `seqlens_k`: 1 + beta * ln(1 + floor(p /
 * originalContext)) for the positions p of the call. @returns the name, [B, S, 1]
 */
function queryGrowth(
  graph: Graph,
  { beta, originalContext }: NonNullable<Architecture['queryGrowth']>,
  floatType: FloatType,
): string {
  const float = (label: string, value: number) => graph.constant(`growth.${label}`, 'f32', [], Float32Array.of(value));
  const int = (label: string, dims: number[], value: number) =>
    graph.constant(`growth.${label}`, 'i64', dims, BigInt64Array.of(BigInt(value)));
  const node = (op: string, inputs: string[], label: string, attributes = {}) =>
    graph.node(op, inputs, [`growth.${label}`], attributes);
  // seqlens_k is the last position of each row, and the call ends there.
  const shape = node('Shape', ['hidden'], 'shape');
  const count = node('Gather', [shape, int('axis', [], 1)], 'count');
  const offsets = node(
    'Range',
    [node('Sub', [int('one', [], 1), count], 'first'), int('end', [], 1), 'growth.one'],
    'offsets',
  );
  const last = node('Cast', ['seqlens_k'], 'last', { to: DATA_TYPE.i64 });
  const column = node('Unsqueeze', [last, int('column', [1], 1)], 'rows');
  const positions = node('Cast', [node('Add', [column, offsets], 'positions')], 'p', { to: DATA_TYPE.f32 });
  const turns = node('Floor', [node('Div', [positions, float('context', originalContext)], 'quotient')], 'turns');
  const log = node('Log', [node('Add', [turns, float('unit', 1)], 'base')], 'log');
  const factor = node('Add', [node('Mul', [log, float('beta', beta)], 'grown'), 'growth.unit'], 'factor');
  const all = node('Unsqueeze', [factor, int('depth', [1], 2)], 'all');
  return floatType === 'f32' ? all : node('Cast', [all], 'half', { to: DATA_TYPE.f16 });
}
