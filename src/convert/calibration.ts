/**
 * What was measured on sample text, from a safetensors file, e.g. for `layers.3` or, of an exit block,
 * `exits.10.layers.0`:
 * - `{layer}.{input}.hessian` f32 [K, K]: second moments X^T X of a linear layer's input, for GPTQ; the diagonal says
 *   how large its channels are, for smoothing;
 * - `head_in.hessian`: the same of the head's input, over all exits;
 * - `{layer}.k_max`, `{layer}.v_max` f32 [kv_heads * head_dim]: the largest magnitude of each channel of the keys (as
 *   the cache holds them, rotated) and of the values, for KV caches of bytes.
 *
 * Knows: that naming. Must not know: how the file was measured, how rounding works, how smoothing factors are chosen.
 */
import { checkTensor } from './check.js';
import { ConvertError } from './errors.js';
import { openSafetensors, type Safetensors } from './hf/safetensors.js';
import { NO_SMOOTHING, type InputName, type LayerFactors } from './smoothing/layer-factors.js';
import { gptq, inverseFactor } from './quantize/gptq.js';
import { quantizeToNearest, type Int4Quantizer } from './quantize/int4.js';

/** Which input each linear layer reads. */
const INPUT_OF = { qkv: 'attn_in', o: 'attn_out', gate: 'mlp_in', up: 'mlp_in', down: 'mlp_out' } as const;
export type LinearLabel = keyof typeof INPUT_OF;

export interface KvRange {
  readonly k: Float32Array;
  readonly v: Float32Array;
}

/** What is known of one layer's activations. */
export interface LayerCalibration {
  /** The best quantizer for a weight of width k. */
  int4(label: LinearLabel, k: number): Int4Quantizer;
  /** Largest magnitudes of keys and values, each [channels], or null where nobody measured them. */
  kvRange(channels: number): KvRange | null;
  /** Sums over tokens of the squares of an input's k channels, or null where nobody measured them. */
  squares(input: InputName, k: number): Float32Array | null;
  /** The same of the layer when its inputs are smoothed. */
  smoothed(factors: LayerFactors): LayerCalibration;
}

export interface Calibration {
  /** @param name what the layer's measurements begin with, e.g. `layers.3` */
  layer(name: string): LayerCalibration;
  /** Sums over tokens of the squares of the head's k inputs, or null where nobody measured them. */
  head(k: number): Float32Array | null;
  close(): void;
}

const NOTHING: LayerCalibration = {
  int4: () => quantizeToNearest,
  kvRange: () => null,
  squares: () => null,
  smoothed: () => NOTHING,
};

/** Without measurements: round to nearest, level nothing, keep the KV cache in floats. */
export const NO_CALIBRATION: Calibration = {
  layer: () => NOTHING,
  head: () => null,
  close: () => undefined,
};

/** Opens a calibration file; layers that it does not hold fall back to rounding to nearest. */
export function openCalibration(file: string): Calibration {
  const source = openSafetensors(file);
  const names = new Set(source.names);
  if (!source.names.some((name) => /\.(hessian|k_max)$/.test(name))) {
    source.close();
    throw new ConvertError('bad_source', `${file} holds no measurements (no tensor named *.hessian or *.k_max)`);
  }
  const squares = (input: string, k: number): Float32Array | null => {
    const name = `${input}.hessian`;
    if (!names.has(name)) return null;
    checkTensor(source, name, [k, k], file);
    return diagonal(source, name, k);
  };
  // Gate and up read the same input, one after the other: keep the last factor.
  let last: { name: string; quantizer: Int4Quantizer } | null = null;
  const layer = (prefix: string, factors: LayerFactors): LayerCalibration => ({
    int4(label, k) {
      const name = `${prefix}.${INPUT_OF[label]}.hessian`;
      if (!names.has(name)) return quantizeToNearest;
      if (last?.name === name) return last.quantizer;
      checkTensor(source, name, [k, k], file);
      const moments = smoothedMoments(source.tensor(name).rows(0, k), k, factors[INPUT_OF[label]]);
      last = { name, quantizer: gptq(inverseFactor(moments, k)) };
      return last.quantizer;
    },
    kvRange(channels) {
      const [k, v] = ['k_max', 'v_max'].map((part) => {
        const name = `${prefix}.${part}`;
        if (!names.has(name)) return null;
        checkTensor(source, name, [channels], file);
        return source.tensor(name).rows(0, 1);
      });
      return k && v ? { k, v: v.map((value, i) => value / (factors.values?.[i] ?? 1)) } : null;
    },
    squares(input, k) {
      const byChannel = factors[input];
      return squares(`${prefix}.${input}`, k)?.map((value, i) => value / (byChannel?.[i] ?? 1) ** 2) ?? null;
    },
    smoothed: (next) => layer(prefix, next),
  });
  return {
    layer: (name) => layer(name, NO_SMOOTHING),
    head: (k) => squares('head_in', k),
    close: () => {
      source.close();
    },
  };
}

/** Row by row: the whole matrix of a wide model needs half a gigabyte. */
function diagonal(source: Safetensors, name: string, k: number): Float32Array {
  const tensor = source.tensor(name);
  return Float32Array.from({ length: k }, (_, i) => tensor.rows(i, 1)[i] ?? 0);
}

/** Second moments of x / factors from those of x; in place. */
function smoothedMoments(moments: Float32Array, k: number, factors: Float32Array | null): Float32Array {
  if (factors)
    for (let i = 0; i < k; i++)
      for (let j = 0; j < k; j++) {
        const at = i * k + j;
        moments[at] = (moments[at] ?? 0) / ((factors[i] ?? 1) * (factors[j] ?? 1));
      }
  return moments;
}
