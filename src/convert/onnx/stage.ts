/** The graph of one stage: decoder layers between two boundaries, with their KV cache. See model/manifest.ts. */
import type { Architecture } from '../../model/manifest.js';
import type { LayerCalibration, LinearLabel } from '../calibration.js';
import { ConvertError } from '../errors.js';
import type { WeightStore } from '../output/weight-store.js';
import { ropeTables } from '../rope.js';
import { LAYER, type ModelSource, type SourceTensor } from '../source.js';
import { linearWeight, scaled } from '../weight.js';
import { Graph, MICROSOFT } from './graph.js';
import { addLinear, type KernelOptions } from './linear.js';
import { storeFloats, type FloatType } from './vectors.js';

export interface StageLayer {
  /** Source of the layer's tensors: `source.tensor(prefix + LAYER.q)`. */
  source: Pick<ModelSource, 'tensor'>;
  prefix: string;
  /** Prefix of its initializers, e.g. `layers.3`. */
  name: string;
  /** Activation statistics of the layer. */
  calibration: LayerCalibration;
}

export interface StageOptions extends Omit<KernelOptions, 'quantizer'> {
  floatType: FloatType;
  kvType: FloatType | 'i8';
}

/** Builds the graph and stores tensors that are not stored yet. Calls `done` after each layer. */
export async function stageGraph(
  name: string,
  layers: StageLayer[],
  arch: Architecture,
  store: WeightStore,
  options: StageOptions,
  done: () => void,
): Promise<Graph> {
  const { floatType, kvType } = options;
  const { hidden, heads, kvHeads, headDim } = arch;
  const graph = new Graph(name);
  const epsilon = { float: arch.normEps };
  // ONNX Runtime's CPU attention multiplies one query with the keys by a single-row kernel only if the scores need no
  // scale. Otherwise it packs all keys first. So the queries' weights carry attention's scale.
  const queryScale = floatType === 'f32' ? headDim ** -0.5 : 1;
  const cache = ['B', kvHeads, 'capacity', headDim];
  const tables = [arch.context, headDim / 2];
  const cos = graph.weight(await storeFloats(store, 'rope.cos', tables, floatType, () => ropeTables(arch).cos));
  const sin = graph.weight(await storeFloats(store, 'rope.sin', tables, floatType, () => ropeTables(arch).sin));
  let residual = graph.input('hidden', floatType, ['B', 'S', hidden]);
  graph.input('seqlens_k', 'i32', ['B']);
  graph.input('total_len', 'i32', [1]);
  graph.output('hidden_out', floatType, ['B', 'S', hidden]);
  let pending: string | null = null;

  for (const [i, layer] of layers.entries()) {
    const id = layer.name;
    const tensor = (part: string) => layer.source.tensor(layer.prefix + part);
    const vector = async (label: string, part: string) =>
      graph.weight(
        await storeFloats(store, `${id}.${label}`, tensor(part).shape.slice(), floatType, () =>
          tensor(part).rows(0, 1),
        ),
      );
    const linear = (label: LinearLabel, x: string, ...parts: SourceTensor[]) =>
      addLinear(graph, store, x, linearWeight(`${id}.${label}`, parts), {
        ...options,
        quantizer: (k) => layer.calibration.int4(label, k),
      });
    /** Norm of residual + pending; the sum becomes the new residual. */
    const norm = async (label: string, part: string): Promise<string> => {
      const scale = await vector(label, part);
      const out = `${id}.${label}.out`;
      if (pending === null)
        return graph.node('SimplifiedLayerNormalization', [residual, scale], [out], { axis: -1, epsilon });
      const sum = `${id}.${label}.sum`;
      graph.node(
        'SkipSimplifiedLayerNormalization',
        [residual, pending, scale],
        [out, '', '', sum],
        { epsilon },
        MICROSOFT,
      );
      residual = sum;
      return out;
    };

    const attnIn = await norm('attn_norm', LAYER.attnNorm);
    const query = (part: string) => scaled(tensor(part), queryScale);
    let qkv = await linear('qkv', attnIn, query(LAYER.q), tensor(LAYER.k), tensor(LAYER.v));
    if (arch.attentionBias) {
      const rows = (heads + 2 * kvHeads) * headDim;
      const bias = await storeFloats(store, `${id}.qkv.bias`, [rows], floatType, () =>
        concat([query(LAYER.qBias), tensor(LAYER.kBias), tensor(LAYER.vBias)].map((part) => part.rows(0, 1))),
      );
      qkv = graph.node('Add', [qkv, graph.weight(bias)], [`${id}.qkv.biased`]);
    }
    const past = [`past_k_${i}`, `past_v_${i}`].map((value) => graph.input(value, kvType, cache));
    const present = [`present_k_${i}`, `present_v_${i}`];
    for (const value of present) graph.output(value, kvType, cache);
    const quantized = kvType === 'i8' ? kvScales(graph, id, kvHeads * headDim, layer.calibration) : null;
    const attention = graph.node(
      'GroupQueryAttention',
      [qkv, '', '', ...past, 'seqlens_k', 'total_len', cos, sin, ...(quantized ? ['', '', '', ...quantized] : [])],
      [`${id}.attention.out`, ...present],
      {
        num_heads: heads,
        kv_num_heads: kvHeads,
        do_rotary: 1,
        scale: { float: headDim ** -0.5 / queryScale },
        ...(quantized ? { k_quant_type: 'PER_CHANNEL', v_quant_type: 'PER_CHANNEL', kv_cache_bit_width: 8 } : {}),
      },
      MICROSOFT,
    );
    pending = await linear('o', attention, tensor(LAYER.o));
    if (arch.attentionBias)
      pending = graph.node('Add', [pending, await vector('o.bias', LAYER.oBias)], [`${id}.o.biased`]);

    const mlpIn = await norm('mlp_norm', LAYER.mlpNorm);
    const gate = await linear('gate', mlpIn, tensor(LAYER.gate));
    const up = await linear('up', mlpIn, tensor(LAYER.up));
    // x * sigmoid(alpha x) with alpha 1 is SiLU, in one node.
    const silu = graph.node('QuickGelu', [gate], [`${id}.silu.out`], { alpha: { float: 1 } }, MICROSOFT);
    pending = await linear('down', graph.node('Mul', [silu, up], [`${id}.mlp.out`]), tensor(LAYER.down));
    done();
  }
  if (pending === null) throw new Error(`stage ${name} has no layers`);
  graph.node('Add', [residual, pending], ['hidden_out']);
  return graph;
}

/**
 * Served text may exceed the measured range by this factor. A fixed scale makes the bytes of a position independent of
 * all other positions, so results do not depend on slots, chunks or batches.
 */
const KV_HEADROOM = 1.1;

/** Adds constants with the scales of keys and values, each [channels]. */
function kvScales(graph: Graph, id: string, channels: number, calibration: LayerCalibration): [string, string] {
  const range = calibration.kvRange(channels);
  if (!range) throw new ConvertError('bad_source', `the calibration has no k_max and v_max of ${id}`);
  const scales = (values: Float32Array) =>
    values.map((value) => (Number.isFinite(value) && value > 0 ? (value * KV_HEADROOM) / 127 : 1 / 127));
  return [
    graph.constant(`${id}.k_scale`, 'f32', [channels], scales(range.k)),
    graph.constant(`${id}.v_scale`, 'f32', [channels], scales(range.v)),
  ];
}

function concat(parts: Float32Array[]): Float32Array {
  const out = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}
