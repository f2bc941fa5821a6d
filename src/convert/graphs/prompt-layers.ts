/**
 * The graphs behind a prompt exit. One stacked product makes the keys and values of all deeper layers from the normed
 * states at the exit. The keys graph ends there. The stage graph runs the layers, whose other weights are the trunk's.
 */
import { type Graph, MICROSOFT } from '../../engine/model/onnx-graph.js';
import { leadsGroup } from '../prompt-exit.js';
import { quantizeToNearest } from '../quantize/int4.js';
import type { PromptSource } from '../source.js';
import { PROMPT_NORM, type Part, type SourceTensor } from '../source.js';
import { kernelWidth } from '../rope.js';
import { linearWeight, scaled } from '../weight.js';
import { concat, normalized, outputOf, pagedAttention, pagesOf, pastOf } from './attention.js';
import { queryScaleOf, slotAttention } from './attention.js';
import type { LayerBuilder } from './layer.js';
import { addLinear, storeFloats } from './linear.js';
import { addLayers, gatherStates, stageInputs, startGraph, type StageStart, type StageWork } from './stage.js';

/** The layers behind a prompt exit, from the first on; their sources have the exit's own projections. */
export interface PromptWork extends StageWork {
  readonly prompt: PromptSource;
}

interface Parts extends StageStart {
  readonly prompt: PromptSource;
}

/**
 * Adds the keys and values of each KV cache from the states `hidden`: names of values [B, S, kv_heads * head_dim],
 * or [T, kv_heads * head_dim] in pages.
 */
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
    const scale = arch.qkNorm === 'none' ? null : await ownNames(leader).vector('k_norm', 'kNorm');
    pairs.push([scale === null ? key : normalized(leader, key, scale, arch.kvHeads), names[2 * i + 1] ?? '']);
  }
  return pairs;
}

/** Builds the stage graph and stores tensors that are not stored yet. Calls `done` after each layer. */
export async function promptStageGraph(work: PromptWork, done: () => void): Promise<Graph> {
  const { arch, options, prompt } = work;
  const parts = { ...(await startGraph(work)), prompt };
  const { graph, builds, rotary } = parts;
  const start = stageInputs(graph, arch, options);
  const pairs = await keysAndValues(parts);
  const [first] = builds;
  const cacheOf = options.isPaged ? pagesOf : pastOf;
  const caches = pairs.map((_, cache) => (first === undefined ? [] : cacheOf(first, cache)));
  const attend = async (build: LayerBuilder, x: string): Promise<string> => {
    const group = Math.floor(build.index / prompt.group);
    const { rotary: table } = build.layer.kind;
    const values = { cache: caches[group] ?? [], tables: table === null ? null : rotary.get(table) };
    const query = [await queries(build, x), ...(pairs[group] ?? [])];
    const attended = options.isPaged
      ? pagedAttention(build, query, { ...values, norms: null })
      : slotAttention(build, query, { ...values, quantized: null });
    return outputOf(build, attended);
  };
  await addLayers(builds, start, attend, done);
  return graph;
}

/** Builds the keys graph; see engine/model/manifest.ts. Its weights are those of the stage graph. */
export async function promptKeysGraph(work: PromptWork): Promise<Graph> {
  const { arch, options, prompt } = work;
  const parts = { ...(await startGraph(work)), prompt };
  if (options.isPaged) return pagedKeys(parts, work);
  const { graph } = parts;
  graph.input('hidden', options.floatType, ['B', 'S', arch.hidden]);
  graph.input('position', 'i64', [1]);
  const pairs = await keysAndValues(parts);
  const byHead = graph.ints('prompt.by_head', 0, 0, arch.kvHeads, arch.headDim);
  for (const [cache, [key, value]] of pairs.entries()) {
    const turn = rotationOf(parts, cache);
    for (const [part, x] of [
      ['key', key],
      ['value', value],
    ] as const) {
      const out = `${part}_${cache}`;
      graph.output(out, options.floatType, ['B', arch.kvHeads, 'S', arch.headDim]);
      const rows = graph.node('Reshape', [x, byHead], [`${out}.rows`]);
      const turned = part === 'key' && turn !== null;
      const heads = graph.node('Transpose', [rows], [turned ? `${out}.heads` : out], { perm: [0, 2, 1, 3] });
      if (turned) turn(heads, 'position', out);
    }
  }
  return graph;
}

/** The keys graph of a KV cache in pages, whose positions are rows [pages * page, kv_heads * head_dim]. */
async function pagedKeys(parts: Parts, { arch, options: { floatType } }: PromptWork): Promise<Graph> {
  const { graph } = parts;
  const width = arch.kvHeads * arch.headDim;
  gatherStates(graph, arch.hidden, floatType);
  graph.input('positions', 'i64', [1, 'T']);
  graph.input('rows', 'i64', ['T', 1]);
  const batch = graph.ints('prompt.batch', 1, -1, width);
  const flat = graph.ints('prompt.flat', -1, width);
  for (const [cache, [key, value]] of (await keysAndValues(parts)).entries()) {
    const turn = rotationOf(parts, cache);
    let keys = key;
    if (turn !== null) {
      const turned = turn(graph.node('Reshape', [key, batch], [`${key}.batch`]), 'positions', `${key}.turned`);
      keys = graph.node('Reshape', [turned, flat], [`${key}.flat`]);
    }
    for (const [part, rows] of [
      ['k', keys],
      ['v', value],
    ] as const) {
      const before = graph.input(`${part}_${cache}`, floatType, ['P', width]);
      graph.output(`${part}_out_${cache}`, floatType, ['P', width]);
      graph.node('ScatterND', [before, 'rows', rows], [`${part}_out_${cache}`]);
    }
  }
  return graph;
}

/** Adds the rotation of attention to keys of these positions. @returns its output */
type Rotation = (keys: string, positions: string, out: string) => string;

/** @returns null for a KV cache whose keys have no rotation */
function rotationOf({ graph, builds, rotary, prompt }: Parts, cache: number): Rotation | null {
  const build = builds[cache * prompt.group];
  const kind = build?.layer.kind.rotary ?? null;
  const table = kind === null ? undefined : build?.arch.rotary[kind];
  const tables = kind === null ? undefined : rotary.get(kind);
  if (build === undefined || table === undefined || tables === undefined) return null;
  const { kvHeads, headDim } = build.arch;
  const width = kernelWidth(table);
  const attributes = { num_heads: kvHeads, rotary_embedding_dim: width < headDim ? width : 0 };
  return (keys, positions, out) =>
    graph.node('RotaryEmbedding', [keys, positions, ...tables], [out], attributes, MICROSOFT);
}

/** Adds the queries of a layer, with their norm, bias and scale. */
async function queries(build: LayerBuilder, x: string): Promise<string> {
  const { graph, arch } = build;
  const own = ownNames(build);
  const scale = queryScaleOf(build);
  const weightScale = arch.qkNorm === 'none' ? scale : 1;
  const name = `${own.id}.q`;
  let out = await linear(build, name, x, [scaled(build.tensor('q'), weightScale)]);
  if (arch.qkvBias)
    out = graph.node('Add', [out, await own.vector('q.bias', 'qBias', weightScale)], [`${name}.biased`]);
  if (arch.qkNorm === 'none') return out;
  return normalized(build, out, await own.vector('q_norm', 'qNorm', scale), arch.heads);
}

/** The builder of parts that differ from the trunk's. */
function ownNames(build: LayerBuilder): LayerBuilder {
  return build.named(`prompt.${build.id}`);
}

function stacked(leaders: readonly LayerBuilder[], key: Part, value: Part): SourceTensor[] {
  return leaders.flatMap((build) => [build.tensor(key), build.tensor(value)]);
}

/** Adds y = x W^T for stacked weights under a name of its own. */
function linear({ graph, store, options }: LayerBuilder, name: string, x: string, parts: SourceTensor[]) {
  return addLinear(graph, store, x, linearWeight(name, parts), { ...options, quantizer: () => quantizeToNearest });
}
