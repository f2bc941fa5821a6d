/**
 * Reads the activation statistics of a model from a safetensors file. `{layer}` is `layers.3` or, in an exit block,
 * `exits.10.layers.0`.
 * - `{layer}.{input}.hessian` f32 [K, K]: second moments X^T X of a linear layer's input. GPTQ reads the matrix;
 *   smoothing reads the diagonal, the size of each channel.
 * - `head_in.hessian`: the same for the head's input, over all exits.
 * - `{layer}.k_max`, `{layer}.v_max` f32 [kv_heads * head_dim]: the largest magnitude of each channel of keys and
 *   values, for int8 KV caches. Keys are measured after the rotation, as the cache holds them.
 */
import { checkTensor } from './check.js';
import { ConvertError } from './conversion-error.js';
import { openSafetensors } from './formats/hf/safetensors.js';
import { gptq, inverseFactor, quantizeToNearest, type Int4Quantizer } from './quantize/int4.js';
import type { SourceTensor } from './source.js';

/** Inputs of linear layers: attn_in of q, k and v; attn_out of o; mlp_in of gate and up; mlp_out of down. */
export type InputName = 'attn_in' | 'attn_out' | 'mlp_in' | 'mlp_out';

/** The input that each linear layer reads. */
const INPUT_OF = { qkv: 'attn_in', o: 'attn_out', gate: 'mlp_in', up: 'mlp_in', down: 'mlp_out' } as const;
export type LinearLabel = keyof typeof INPUT_OF;

/** The factors that smooth the inputs of a layer; null leaves an input unchanged. */
export interface LayerFactors extends Readonly<Record<InputName, Float32Array | null>> {
  /** By channel of the values [kv_heads * head_dim]; attn_out [heads * head_dim] repeats them for each query head. */
  readonly values: Float32Array | null;
}

const NO_SMOOTHING: LayerFactors = { attn_in: null, attn_out: null, values: null, mlp_in: null, mlp_out: null };

/** Statistics of one layer's activations. */
export interface LayerCalibration {
  /** The best quantizer for a weight of width k. */
  int4(label: LinearLabel, k: number): Int4Quantizer;
  /** Largest magnitudes of keys and values, each [channels]; null if the file holds none. */
  kvRange(channels: number): { readonly k: Float32Array; readonly v: Float32Array } | null;
  /** Sums over tokens of the squares of an input's k channels; null if the file holds none. */
  squares(input: InputName, k: number): Float32Array | null;
  /** The statistics of the layer after its inputs are smoothed by these factors. */
  smoothed(factors: LayerFactors): LayerCalibration;
}

export interface Calibration {
  /** @param name the prefix of the layer's tensors, e.g. `layers.3` */
  layer(name: string): LayerCalibration;
  /** Sums over tokens of the squares of the head's k inputs; null if the file holds none. */
  head(k: number): Float32Array | null;
  close(): void;
}

/** Without statistics, weights round to nearest, nothing is smoothed, and the KV cache holds floats. */
export const NO_CALIBRATION = calibrationOf(
  () => null,
  () => undefined,
);

/** Opens a calibration file. A layer that the file lacks rounds to nearest. */
export function openCalibration(file: string): Calibration {
  const source = openSafetensors(file);
  const names = new Set(source.names);
  if (!source.names.some((name) => /\.(hessian|k_max)$/.test(name))) {
    source.close();
    const rule = 'it has no tensor named *.hessian or *.k_max';
    throw new ConvertError(`${file} is not a calibration file (${rule})`);
  }
  return calibrationOf((name, shape) => {
    if (!names.has(name)) return null;
    checkTensor(source, name, shape, file);
    return source.tensor(name);
  }, source.close);
}

/** @param find returns a tensor of this shape; null for none */
function calibrationOf(
  find: (name: string, shape: readonly number[]) => SourceTensor | null,
  close: () => void,
): Calibration {
  // Row by row: the whole matrix of a wide model needs half a gigabyte.
  const squares = (input: string, k: number): Float32Array | null => {
    const matrix = find(`${input}.hessian`, [k, k]);
    return matrix && Float32Array.from({ length: k }, (_, i) => matrix.rows(i, 1)[i] ?? 0);
  };
  // Gate and up read the same input and follow each other: keep the last factor.
  let last: { name: string; quantizer: Int4Quantizer } | null = null;
  const layer = (prefix: string, factors: LayerFactors): LayerCalibration => ({
    int4(label, k) {
      const name = `${prefix}.${INPUT_OF[label]}.hessian`;
      if (last?.name === name) return last.quantizer;
      const hessian = find(name, [k, k]);
      if (hessian === null) return quantizeToNearest;
      const moments = smoothedMoments(hessian.rows(0, k), k, factors[INPUT_OF[label]]);
      last = { name, quantizer: gptq(inverseFactor(moments, k)) };
      return last.quantizer;
    },
    kvRange(channels) {
      const [k, v] = ['k_max', 'v_max'].map((part) => find(`${prefix}.${part}`, [channels])?.rows(0, 1));
      return k && v ? { k, v: v.map((value, i) => value / (factors.values?.[i] ?? 1)) } : null;
    },
    squares(input, k) {
      const byChannel = factors[input];
      return squares(`${prefix}.${input}`, k)?.map((value, i) => value / (byChannel?.[i] ?? 1) ** 2) ?? null;
    },
    smoothed: (next) => layer(prefix, next),
  });
  return { layer: (name) => layer(name, NO_SMOOTHING), head: (k) => squares('head_in', k), close };
}

/** Turns the second moments of x into those of x / factors, in place. */
function smoothedMoments(moments: Float32Array, k: number, factors: Float32Array | null): Float32Array {
  if (factors)
    for (let i = 0; i < k; i++)
      for (let j = 0; j < k; j++) {
        const at = i * k + j;
        moments[at] = (moments[at] ?? 0) / ((factors[i] ?? 1) * (factors[j] ?? 1));
      }
  return moments;
}
