/**
 * The graphs behind a prompt exit. The keys and values of all deeper layers follow from the states there. One
 * stacked product of the normed stream makes them (SwiftKV), or they are parts of the states (sharing layers). The keys
 * graph ends there. The stage graph runs the layers, whose other weights are the trunk's.
 */
import { stateWidth } from '../../engine/model/architecture.js';
import { type Graph, MICROSOFT } from '../../engine/model/onnx-graph.js';
import type { PromptSource } from '../source.js';
import { PROMPT_NORM, type Part, type SourceTensor } from '../source.js';
import { kernelWidth } from '../rope.js';
import { scaled } from '../weight.js';
import { concat, normalized, outputOf, pagedAttention, pagesOf, pastOf } from './attention.js';
import { queryScaleOf, slotAttention } from './attention.js';
import type { LayerBuilder } from './layer.js';
import { storeFloats } from './linear.js';
import { openState, type State } from './state.js';
import { addLayers, gatherStates, stageInputs, startGraph, type StageStart, type StageWork } from './stage.js';

/** The layers behind a prompt exit, from the first on; their sources have the exit's own projections. */
export interface PromptWork extends StageWork {
  /** Weights of the exit; null for layers that share keys and values of the trunk. */
  readonly prompt: PromptSource | null;
  /** The KV cache of each layer. */
  readonly caches: readonly number[];
}

interface Parts extends StageStart {
  readonly prompt: PromptSource | null;
  readonly caches: readonly number[];
  readonly state: State;
}

/** The first layer of each KV cache. */
function leadersOf({ builds, caches }: Pick<Parts, 'builds' | 'caches'>): LayerBuilder[] {
  return builds.filter((_, i) => caches.indexOf(caches[i] ?? -1) === i);
}

/**
 * Adds the keys and values of each KV cache from the states `hidden`: names of values [B, S, kv_heads * head_dim],
 * or [T, kv_heads * head_dim] in pages.
 */
async function keysAndValues(parts: Parts): Promise<(readonly [k: string, v: string])[]> {
  const { graph, builds, prompt, state } = parts;
  const [first] = builds;
  if (first === undefined) throw new RangeError('a prompt exit needs a layer behind it');
  if (prompt === null) return [...state.shared.values()];
  const { arch, store, options } = first;
  const floats = (name: string, dims: number[], values: () => Float32Array) =>
    storeFloats(store, `prompt.${name}`, dims, options.floatType, values);
  const norm = await floats('norm', [arch.hidden], () => prompt.tensor(PROMPT_NORM).rows(0, 1));
  const x = first.norm('hidden', graph.weight(norm), 'prompt.normed');
  const leaders = leadersOf(parts);
  let out = await first.plainLinear('prompt.kv', x, ...stacked(leaders, 'k', 'v'));
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
  const { arch, options, layers } = work;
  const start = await startGraph(work);
  const { graph, builds, rotary } = start;
  const state = openState(graph, arch, layers[0]?.place ?? 0, stageInputs(graph, arch, options));
  const parts = { ...start, ...work, state };
  const pairs = await keysAndValues(parts);
  const cacheOf = options.isPaged ? pagesOf : pastOf;
  const caches = leadersOf(parts).map((leader, cache) => cacheOf(leader, cache));
  const attend = async (build: LayerBuilder, x: string): Promise<string> => {
    const group = work.caches[build.index] ?? -1;
    const { rotary: table } = build.layer.kind;
    const values = { cache: caches[group] ?? [], tables: table === null ? null : rotary.get(table) };
    const query = [await queries(build, work.prompt === null ? build : ownNames(build), x), ...(pairs[group] ?? [])];
    const attended = options.isPaged
      ? pagedAttention(build, query, { ...values, norms: null })
      : slotAttention(build, query, { ...values, quantized: null });
    return outputOf(build, attended);
  };
  await addLayers(builds, state, attend, done);
  return graph;
}

/** Builds the keys graph; see engine/model/manifest.ts. Its weights are those of the stage graph. */
export async function promptKeysGraph(work: PromptWork): Promise<Graph> {
  const { arch, options, layers } = work;
  const start = await startGraph(work);
  const { graph } = start;
  const width = stateWidth(arch);
  if (options.isPaged) gatherStates(graph, width, options.floatType);
  else graph.input('hidden', options.floatType, ['B', 'S', width]);
  const parts = { ...start, ...work, state: openState(graph, arch, layers[0]?.place ?? 0, 'hidden') };
  if (options.isPaged) return pagedKeys(parts, work);
  graph.input('position', 'i64', [1]);
  const pairs = await keysAndValues(parts);
  for (const [cache, leader] of leadersOf(parts).entries()) {
    const [key, value] = pairs[cache] ?? ['', ''];
    const { kvHeads, headDim } = leader.arch;
    const byHead = graph.ints(`prompt.by_head.${cache}`, 0, 0, kvHeads, headDim);
    const turn = rotationOf(parts, leader);
    for (const [part, x] of [
      ['key', key],
      ['value', value],
    ] as const) {
      const out = `${part}_${cache}`;
      graph.output(out, options.floatType, ['B', kvHeads, 'S', headDim]);
      const rows = graph.node('Reshape', [x, byHead], [`${out}.rows`]);
      const turned = part === 'key' && turn !== null;
      const heads = graph.node('Transpose', [rows], [turned ? `${out}.heads` : out], { perm: [0, 2, 1, 3] });
      if (turned) turn(heads, 'position', out);
    }
  }
  return graph;
}

/** The keys graph of a KV cache in pages, whose positions are rows [pages * page, kv_heads * head_dim]. */
async function pagedKeys(parts: Parts, { options: { floatType } }: PromptWork): Promise<Graph> {
  const { graph } = parts;
  graph.input('positions', 'i64', [1, 'T']);
  graph.input('rows', 'i64', ['T', 1]);
  const pairs = await keysAndValues(parts);
  for (const [cache, leader] of leadersOf(parts).entries()) {
    const [key, value] = pairs[cache] ?? ['', ''];
    const width = leader.arch.kvHeads * leader.arch.headDim;
    const batch = graph.ints(`prompt.batch.${cache}`, 1, -1, width);
    const flat = graph.ints(`prompt.flat.${cache}`, -1, width);
    const turn = rotationOf(parts, leader);
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
function rotationOf({ graph, rotary }: Parts, { layer, arch }: LayerBuilder): Rotation | null {
  const kind = layer.kind.rotary;
  const table = kind === null ? undefined : arch.rotary[kind];
  const tables = kind === null ? undefined : rotary.get(kind);
  if (table === undefined || tables === undefined) return null;
  const { kvHeads, headDim } = arch;
  const width = kernelWidth(table);
  const attributes = { num_heads: kvHeads, rotary_embedding_dim: width < headDim ? width : 0 };
  return (keys, positions, out) =>
    graph.node('RotaryEmbedding', [keys, positions, ...tables], [out], attributes, MICROSOFT);
}

/** Adds the queries of a layer, with norm, bias and scale. @param own the builder with the names of its weights */
async function queries(build: LayerBuilder, own: LayerBuilder, x: string): Promise<string> {
  const { graph, arch } = build;
  const scale = queryScaleOf(build);
  const weightScale = arch.qkNorm === 'none' ? scale : 1;
  const name = `${own.id}.q`;
  let out = await build.plainLinear(name, x, scaled(build.tensor('q'), weightScale));
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
