/** The nodes of one layer's attention: projections, norms of queries and keys, rotation, KV cache, output. */
import { type Architecture, sharedLayers } from '../../engine/model/architecture.js';
import type { LayerCalibration } from '../calibration.js';
import { ConvertError } from '../conversion-error.js';
import { scaled, toHalf } from '../weight.js';
import { MICROSOFT, type Graph } from '../../engine/model/onnx-graph.js';
import type { LayerBuilder } from './layer.js';
import { storeFloats } from './linear.js';

/** Names of values that all layers of a stage share. */
export interface StageValues {
  /** Cosines and sines of each rotary table. */
  readonly rotary: ReadonlyMap<number, readonly [cos: string, sin: string]>;
  /** Multipliers of the queries by position, [B, S, 1]; null for none. */
  readonly queryGrowth: string | null;
  /** Gets the keys and values that other layers share, without rotation, by the layer that makes them. */
  readonly shared: Map<number, readonly [k: string, v: string]>;
}

/** Adds the attention over x [B, S, H]; returns the name of its output, without the residual. */
export async function attention(build: LayerBuilder, x: string, values: StageValues): Promise<string> {
  const { graph, arch, layer, id, index } = build;
  const { kvType } = build.options;
  const { kvHeads, headDim } = arch;
  // ONNX Runtime's CPU attention multiplies one query with the keys by a single-row kernel only if the scores need no
  // scale. Otherwise it packs all keys first. So the queries' weights carry attention's scale.
  const queryScale = queryScaleOf(build);
  const projected = await projections(build, x, queryScale);
  const { rotary } = layer.kind;
  const tables = rotary === null ? null : values.rotary.get(rotary);
  const isPacked = arch.qkNorm === 'none' || (build.options.isPaged && arch.qkNorm === 'head');
  const isShared = sharedLayers(arch).includes(layer.place);
  const query =
    isPacked && values.queryGrowth === null && !arch.valueNorm && !isShared
      ? ([projected, '', ''] as const)
      : await separate(build, projected, values.queryGrowth, queryScale);
  if (isShared) values.shared.set(layer.place, [query[1], query[2]]);
  if (build.options.isPaged) {
    const norms = arch.qkNorm === 'head' && query[1] === '' ? await headNorms(build) : null;
    return outputOf(build, pagedAttention(build, query, { cache: pagesOf(build, index), tables, norms }));
  }
  const quantized = kvType === 'i8' ? kvScales(graph, id, kvHeads * headDim, layer.calibration) : null;
  return outputOf(build, slotAttention(build, query, { cache: pastOf(build, index), tables, quantized }));
}

/** Adds the inputs of one KV cache in slots. @returns their names */
export function pastOf({ graph, arch, options }: LayerBuilder, cache: number): string[] {
  const dims = ['B', arch.kvHeads, 'capacity', arch.headDim];
  return [`past_k_${cache}`, `past_v_${cache}`].map((value) => graph.input(value, options.kvType, dims));
}

interface SlotAttention {
  /** Names of the cache's inputs. */
  readonly cache: readonly string[];
  readonly tables: readonly [cos: string, sin: string] | null | undefined;
  /** Names of the scales of keys and values in bytes. */
  readonly quantized: readonly [k: string, v: string] | null;
}

/** Attention's multiplier that the weights of the queries carry. */
export function queryScaleOf({ arch, options }: LayerBuilder): number {
  return options.floatType === 'f32' ? arch.attentionScale : 1;
}

/** Adds the attention over a KV cache in slots, [B, S, heads * head_dim], and its present outputs. */
export function slotAttention(
  build: LayerBuilder,
  query: readonly string[],
  { cache, tables, quantized }: SlotAttention,
): string {
  const { graph, arch, layer, id, index, options } = build;
  const { window } = layer.kind;
  const present = [`present_k_${index}`, `present_v_${index}`];
  for (const value of present) graph.output(value, options.kvType, ['B', arch.kvHeads, 'capacity', arch.headDim]);
  const inputs = [...query, ...cache, 'seqlens_k', 'total_len', ...(tables ?? (quantized ? ['', ''] : []))];
  return graph.node(
    'GroupQueryAttention',
    [...inputs, ...(quantized ? ['', '', '', ...quantized] : [])],
    [`${id}.attention.out`, ...present],
    {
      num_heads: arch.heads,
      kv_num_heads: arch.kvHeads,
      do_rotary: tables ? 1 : 0,
      scale: { float: arch.attentionScale / queryScaleOf(build) },
      ...(quantized ? { k_quant_type: 'PER_CHANNEL', v_quant_type: 'PER_CHANNEL', kv_cache_bit_width: 8 } : {}),
      ...(window === null ? {} : { local_window_size: window }),
      ...(arch.softcap === null ? {} : { softcap: { float: arch.softcap } }),
    },
    MICROSOFT,
  );
}

/** Adds the output projection. */
export async function outputOf(build: LayerBuilder, attended: string): Promise<string> {
  const output = await build.linear('o', attended, build.tensor('o'));
  if (!build.arch.outputBias) return output;
  return build.graph.node('Add', [output, await build.vector('o.bias', 'oBias')], [`${build.id}.o.biased`]);
}

/** Adds the inputs of one KV cache in pages. @returns their names */
export function pagesOf({ graph, arch, options }: LayerBuilder, cache: number): string[] {
  return ['k', 'v'].map((value) => graph.input(`${value}_${cache}`, options.floatType, pageDims(arch)));
}

function pageDims({ kvHeads, headDim }: Architecture): (number | string)[] {
  return ['pages', 'page', kvHeads, headDim];
}

async function headNorms(build: LayerBuilder): Promise<readonly [q: string, k: string]> {
  return [await build.vector('q_norm', 'qNorm'), await build.vector('k_norm', 'kNorm')];
}

interface PagedAttention {
  /** Names of the cache's inputs. */
  readonly cache: readonly string[];
  readonly tables: readonly [cos: string, sin: string] | null | undefined;
  /** Norms of each head that the operator applies itself; null: none. */
  readonly norms: readonly [q: string, k: string] | null;
}

/** Adds the attention over a KV cache in pages, [T, heads * head_dim], and its outputs, bound to the same memory. */
export function pagedAttention(
  build: LayerBuilder,
  query: readonly string[],
  { cache, tables, norms }: PagedAttention,
): string {
  const { graph, arch, layer, id, index } = build;
  const present = ['k', 'v'].map((value) => `${value}_out_${index}`);
  for (const value of present) graph.output(value, build.options.floatType, pageDims(arch));
  const inputs = [
    ...query,
    ...cache,
    'cumulative',
    'pasts',
    'table',
    ...(tables ?? ['', '']),
    // Inputs of other layouts.
    ...['', ''],
    ...(norms ?? ['', '']),
    // Scales of quantized caches.
    ...['', ''],
    'bounds',
  ];
  return graph.node(
    'PagedAttention',
    inputs,
    [`${id}.attention.out`, ...present],
    {
      num_heads: arch.heads,
      kv_num_heads: arch.kvHeads,
      do_rotary: tables ? 1 : 0,
      scale: { float: arch.attentionScale },
      ...(norms === null ? {} : { qk_norm_epsilon: { float: arch.normEps } }),
      ...(layer.kind.window === null ? {} : { local_window_size: layer.kind.window }),
      ...(arch.softcap === null ? {} : { softcap: { float: arch.softcap } }),
    },
    MICROSOFT,
  );
}

/** Adds queries, keys and values, one behind the other: [B, S, (heads + 2 kv_heads) * head_dim]. */
async function projections(build: LayerBuilder, x: string, queryScale: number): Promise<string> {
  const { graph, arch, store, id } = build;
  const { heads, kvHeads, headDim, qkNorm } = arch;
  // A norm of the queries would undo their scale, and takes it instead.
  const query = (part: 'q' | 'qBias') => scaled(build.tensor(part), qkNorm === 'none' ? queryScale : 1);
  const values = build.layer.kind.keysAsValues ? [] : [build.tensor('v')];
  const qkv = await build.linear('qkv', x, query('q'), build.tensor('k'), ...values);
  if (!arch.qkvBias) return qkv;
  const rows = (heads + 2 * kvHeads) * headDim;
  const bias = await storeFloats(store, `${id}.qkv.bias`, [rows], build.options.floatType, () =>
    concat([query('qBias'), build.tensor('kBias'), build.tensor('vBias')].map((part) => part.rows(0, 1))),
  );
  return graph.node('Add', [qkv, graph.weight(bias)], [`${id}.qkv.biased`]);
}

/** Separates queries, keys and values, and normalizes and scales the first two. */
async function separate(
  build: LayerBuilder,
  qkv: string,
  growth: string | null,
  queryScale: number,
): Promise<[q: string, k: string, v: string]> {
  const { graph, arch, id } = build;
  const { heads, kvHeads, headDim, qkNorm } = arch;
  const { keysAsValues } = build.layer.kind;
  const widths = (keysAsValues ? [heads, kvHeads] : [heads, kvHeads, kvHeads]).map((count) => count * headDim);
  const sizes = graph.ints(`attention.widths.${headDim}`, ...widths);
  const parts = ['q', 'k', 'v'].map((part) => `${id}.${part}`) as [string, string, string];
  graph.node('Split', [qkv, sizes], parts.slice(0, widths.length), { axis: -1 });
  let [q, k, v] = parts;
  if (keysAsValues) v = k;
  if (arch.valueNorm) {
    const ones = graph.constant(`attention.ones.${headDim}`, build.options.floatType, [headDim], onesOf(build));
    v = normalized(build, v, ones, kvHeads, `${id}.v`);
  }
  if (qkNorm !== 'none') {
    q = normalized(build, q, await build.vector('q_norm', 'qNorm', queryScale), heads);
    k = normalized(build, k, await build.vector('k_norm', 'kNorm'), kvHeads);
  }
  if (growth !== null) q = graph.node('Mul', [q, growth], [`${q}.grown`]);
  return [q, k, v];
}

/** Normalizes each head, or all heads together. @param name of the result, where x has another reader */
export function normalized(build: LayerBuilder, x: string, scale: string, heads: number, name = x): string {
  const { graph, arch, options } = build;
  if (arch.qkNorm === 'all') return build.norm(x, scale, `${name}.normed`);
  // Zeros keep the dimensions of positions.
  const places = options.isPaged ? [0] : [0, 0];
  const { headDim } = arch;
  const byHead = graph.ints(`attention.by_head.${heads}.${headDim}`, ...places, heads, headDim);
  const joined = graph.ints(`attention.joined.${heads}.${headDim}`, ...places, heads * headDim);
  const rows = graph.node('Reshape', [x, byHead], [`${name}.heads`]);
  return graph.node('Reshape', [build.norm(rows, scale, `${name}.normed`), joined], [`${name}.joined`]);
}

function onesOf({ arch, options }: LayerBuilder): ArrayBufferView {
  const ones = new Float32Array(arch.headDim).fill(1);
  return options.floatType === 'f16' ? toHalf(ones) : ones;
}

/**
 * Served text may exceed the measured range by this factor. A fixed scale makes the bytes of a position independent of
 * all other positions, so results do not depend on slots, chunks or batches.
 */
const KV_HEADROOM = 1.1;

/** Adds constants with the scales of keys and values, each [channels]. */
function kvScales(graph: Graph, id: string, channels: number, calibration: LayerCalibration): [string, string] {
  const range = calibration.kvRange(channels);
  if (!range) throw new ConvertError(`the calibration has no k_max and v_max of ${id}`);
  const scales = (values: Float32Array) =>
    values.map((value) => (Number.isFinite(value) && value > 0 ? (value * KV_HEADROOM) / 127 : 1 / 127));
  return [
    graph.constant(`${id}.k_scale`, 'f32', [channels], scales(range.k)),
    graph.constant(`${id}.v_scale`, 'f32', [channels], scales(range.v)),
  ];
}

export function concat(parts: Float32Array[]): Float32Array {
  const out = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}
