/**
 * The graphs behind a prompt exit. One stacked product makes the keys and values of all deeper layers from the normed
 * states at the exit. The keys graph ends there. The stage graph runs the layers, whose other weights are the trunk's.
 */
import type { Architecture } from '../../model/architecture.js';
import { Graph, MICROSOFT } from '../../model/onnx-graph.js';
import type { WeightStore } from '../output/weight-store.js';
import { leadsGroup } from '../prompt-exit.js';
import { quantizeToNearest } from '../quantize/int4.js';
import type { PromptSource } from '../source.js';
import { PROMPT_NORM, type Part, type SourceTensor } from '../tensors.js';
import { kernelWidth } from '../rotary-order.js';
import { linearWeight, scaled } from '../weight.js';
import { concat, normalized, outputOf, pastOf, queryScaleOf, slotAttention, type StageValues } from './attention.js';
import { LayerBuilder, type StageLayer, type StageOptions } from './layer.js';
import { addLinear } from './linear.js';
import { mlp, Residual, rotaryTables, slotInputs } from './stage.js';
import { storeFloats } from './vectors.js';

/** The layers behind a prompt exit, from the first on; their sources have the exit's own projections. */
export interface PromptLayerSet {
  readonly prompt: PromptSource;
  readonly layers: readonly StageLayer[];
}

interface Parts extends PromptLayerSet {
  readonly graph: Graph;
  readonly builds: readonly LayerBuilder[];
  readonly rotary: StageValues['rotary'];
}

async function partsOf(
  name: string,
  { prompt, layers }: PromptLayerSet,
  arch: Architecture,
  store: WeightStore,
  options: StageOptions,
): Promise<Parts> {
  const graph = new Graph(name);
  const rotary = await rotaryTables(graph, layers, arch, store, options);
  const builds = layers.map((layer, i) => new LayerBuilder(graph, store, arch, options, layer, i));
  return { prompt, layers, graph, builds, rotary };
}

/** Adds the keys and values of each KV cache from the states `hidden`: names of values [B, S, kv_heads * head_dim]. */
async function keysAndValues({ graph, builds, prompt }: Parts): Promise<(readonly [k: string, v: string])[]> {
  const [first] = builds;
  if (first === undefined) throw new RangeError('a prompt exit needs a layer behind it');
  const { arch, store, options } = first;
  const floats = (name: string, dims: number[], values: () => Float32Array) =>
    storeFloats(store, `prompt.${name}`, dims, options.floatType, values);
  const norm = await floats('norm', [arch.hidden], () => prompt.tensor(PROMPT_NORM).rows(0, 1));
  const x = first.norm('hidden', graph.weight(norm), 'prompt.normed');
  const leaders = builds.filter((_, i) => leadsGroup(prompt, prompt.exit + i));
  let out = await linear(first, 'prompt.kv', x, stacked(leaders, 'k', 'v'));
  const width = arch.kvHeads * arch.headDim;
  if (arch.qkvBias) {
    const bias = await floats('kv.bias', [2 * leaders.length * width], () =>
      concat(stacked(leaders, 'kBias', 'vBias').map((part) => part.rows(0, 1))),
    );
    out = graph.node('Add', [out, graph.weight(bias)], ['prompt.kv.biased']);
  }
  const names = leaders.flatMap(({ id }) => [`prompt.${id}.k`, `prompt.${id}.v`]);
  graph.node('Split', [out, graph.ints('prompt.widths', ...names.map(() => width))], names, { axis: -1 });
  const pairs: (readonly [k: string, v: string])[] = [];
  for (const [i, leader] of leaders.entries()) {
    const key = names[2 * i] ?? '';
    const scale = arch.qkNorm === 'none' ? null : await ownVector(leader, 'k_norm', 'kNorm');
    pairs.push([scale === null ? key : normalized(leader, key, scale, arch.kvHeads), names[2 * i + 1] ?? '']);
  }
  return pairs;
}

/** Builds the stage graph and stores tensors that are not stored yet. Calls `done` after each layer. */
export async function promptStageGraph(
  name: string,
  set: PromptLayerSet,
  arch: Architecture,
  store: WeightStore,
  options: StageOptions,
  done: () => void,
): Promise<Graph> {
  const parts = await partsOf(name, set, arch, store, options);
  const { graph, builds, rotary, prompt } = parts;
  const stream = new Residual(graph, arch, slotInputs(graph, arch, options.floatType));
  const pairs = await keysAndValues(parts);
  const [first] = builds;
  const caches = pairs.map((_, cache) => (first === undefined ? [] : pastOf(first, cache)));
  for (const [i, build] of builds.entries()) {
    const group = Math.floor(i / prompt.group);
    const x = await stream.input(build, 'attn_norm', 'attnNorm');
    const { rotary: table } = build.layer.kind;
    const attended = slotAttention(build, [await queries(build, x), ...(pairs[group] ?? [])], {
      cache: caches[group] ?? [],
      tables: table === null ? null : rotary.get(table),
      quantized: null,
    });
    await stream.add(build, await outputOf(build, attended), 'attn_out_norm', 'attnOutNorm');
    const out = await mlp(build, await stream.input(build, 'mlp_norm', 'mlpNorm'));
    await stream.add(build, out, 'mlp_out_norm', 'mlpOutNorm');
    done();
  }
  stream.end('hidden_out');
  return graph;
}

/** Builds the keys graph; see model/manifest.ts. Its weights are those of the stage graph. */
export async function promptKeysGraph(
  name: string,
  set: PromptLayerSet,
  arch: Architecture,
  store: WeightStore,
  options: StageOptions,
): Promise<Graph> {
  const parts = await partsOf(name, set, arch, store, options);
  const { graph, builds, rotary, prompt } = parts;
  graph.input('hidden', options.floatType, ['B', 'S', arch.hidden]);
  graph.input('position', 'i64', [1]);
  const pairs = await keysAndValues(parts);
  const byHead = graph.ints('prompt.by_head', 0, 0, arch.kvHeads, arch.headDim);
  for (const [cache, [key, value]] of pairs.entries()) {
    const kind = builds[cache * prompt.group]?.layer.kind.rotary ?? null;
    const tables = kind === null ? null : rotary.get(kind);
    for (const [part, x] of [
      ['key', key],
      ['value', value],
    ] as const) {
      const out = `${part}_${cache}`;
      graph.output(out, options.floatType, ['B', arch.kvHeads, 'S', arch.headDim]);
      const rows = graph.node('Reshape', [x, byHead], [`${out}.rows`]);
      const turned = part === 'key' && tables != null;
      const heads = graph.node('Transpose', [rows], [turned ? `${out}.heads` : out], { perm: [0, 2, 1, 3] });
      if (turned) rotate(graph, arch, heads, [...tables], kernelWidth(arch.rotary[kind ?? 0] ?? NO_ROTARY), out);
    }
  }
  return graph;
}

const NO_ROTARY = { theta: 1, width: 0, scaling: null };

/** Adds the rotation of attention to keys [B, kv_heads, S, head_dim] from `position` on. */
function rotate(graph: Graph, arch: Architecture, keys: string, tables: string[], width: number, out: string): void {
  const attributes = { num_heads: arch.kvHeads, rotary_embedding_dim: width < arch.headDim ? width : 0 };
  graph.node('RotaryEmbedding', [keys, 'position', ...tables], [out], attributes, MICROSOFT);
}

/** Adds the queries of a layer [B, S, heads * head_dim], with their norm, bias and scale. */
async function queries(build: LayerBuilder, x: string): Promise<string> {
  const { graph, arch, store, options, id } = build;
  const scale = queryScaleOf(build);
  const weightScale = arch.qkNorm === 'none' ? scale : 1;
  const name = `prompt.${id}.q`;
  let out = await linear(build, name, x, [scaled(build.tensor('q'), weightScale)]);
  if (arch.qkvBias) {
    const bias = await storeFloats(store, `${name}.bias`, [arch.heads * arch.headDim], options.floatType, () =>
      scaled(build.tensor('qBias'), weightScale).rows(0, 1),
    );
    out = graph.node('Add', [out, graph.weight(bias)], [`${name}.biased`]);
  }
  if (arch.qkNorm === 'none') return out;
  return normalized(build, out, await ownVector(build, 'q_norm', 'qNorm', scale), arch.heads);
}

/** Adds a vector that differs from the trunk's. */
async function ownVector(build: LayerBuilder, label: string, part: Part, factor = 1): Promise<string> {
  const tensor = scaled(build.tensor(part), factor);
  const { floatType } = build.options;
  const name = `prompt.${build.id}.${label}`;
  return build.graph.weight(
    await storeFloats(build.store, name, tensor.shape.slice(), floatType, () => tensor.rows(0, 1)),
  );
}

function stacked(leaders: readonly LayerBuilder[], key: Part, value: Part): SourceTensor[] {
  return leaders.flatMap((build) => [build.tensor(key), build.tensor(value)]);
}

/** Adds y = x W^T for stacked weights under a name of its own. */
function linear({ graph, store, options }: LayerBuilder, name: string, x: string, parts: SourceTensor[]) {
  return addLinear(graph, store, x, linearWeight(name, parts), { ...options, quantizer: () => quantizeToNearest });
}
