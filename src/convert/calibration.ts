/**
 * What was measured on sample text, from a safetensors file, e.g. for `layers.3` or, of an exit block,
 * `exits.10.layers.0`:
 * - `{layer}.{input}.hessian` f32 [K, K]: second moments X^T X of a linear layer's input, for GPTQ;
 * - `{layer}.k_max`, `{layer}.v_max` f32 [kv_heads * head_dim]: the largest magnitude of each channel of the keys (as
 *   the cache holds them, rotated) and of the values, for KV caches of bytes.
 *
 * Knows: that naming. Must not know: how the file was measured, how rounding works.
 */
import { checkTensor } from './check.js';
import { ConvertError } from './errors.js';
import { openSafetensors } from './hf/safetensors.js';
import { gptq, inverseFactor } from './quantize/gptq.js';
import { quantizeToNearest, type Int4Quantizer } from './quantize/int4.js';

/** Which input each linear layer reads. */
const INPUT_OF = { qkv: 'attn_in', o: 'attn_out', gate: 'mlp_in', up: 'mlp_in', down: 'mlp_out' } as const;
export type LinearLabel = keyof typeof INPUT_OF;

export interface KvRange {
  readonly k: Float32Array;
  readonly v: Float32Array;
}

export interface Calibration {
  /** The best quantizer for a layer's weight of width k. */
  int4(layer: string, label: LinearLabel, k: number): Int4Quantizer;
  /** Largest magnitudes of keys and values, each [channels], or null where nobody measured them. */
  kvRange(layer: string, channels: number): KvRange | null;
  close(): void;
}

/** Without measurements: round to nearest, keep the KV cache in floats. */
export const NO_CALIBRATION: Calibration = {
  int4: () => quantizeToNearest,
  kvRange: () => null,
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
  // Gate and up read the same input, one after the other: keep the last factor.
  let last: { name: string; quantizer: Int4Quantizer } | null = null;
  return {
    int4(layer, label, k) {
      const name = `${layer}.${INPUT_OF[label]}.hessian`;
      if (!names.has(name)) return quantizeToNearest;
      if (last?.name === name) return last.quantizer;
      checkTensor(source, name, [k, k]);
      last = { name, quantizer: gptq(inverseFactor(source.tensor(name).rows(0, k), k)) };
      return last.quantizer;
    },
    kvRange(layer, channels) {
      const [k, v] = ['k_max', 'v_max'].map((part) => {
        const name = `${layer}.${part}`;
        if (!names.has(name)) return null;
        checkTensor(source, name, [channels]);
        return source.tensor(name).rows(0, 1);
      });
      return k && v ? { k, v } : null;
    },
    close: () => {
      source.close();
    },
  };
}
