/**
 * Second moments of each linear layer's inputs, from a safetensors file: `{layer}.{input}.hessian` f32 [K, K] = X^T X
 * over `tokens` positions, e.g. `layers.3.mlp_in.hessian`, or `exits.10.layers.0.attn_in.hessian` for exit blocks.
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

export interface Calibration {
  /** The best quantizer for a layer's weight of width k. */
  int4(layer: string, label: LinearLabel, k: number): Int4Quantizer;
  close(): void;
}

/** Without measurements: round to nearest. */
export const NO_CALIBRATION: Calibration = { int4: () => quantizeToNearest, close: () => undefined };

/** Opens a calibration file; layers that it does not hold fall back to rounding to nearest. */
export function openCalibration(file: string): Calibration {
  const source = openSafetensors(file);
  const names = new Set(source.names);
  if (!source.names.some((name) => name.endsWith('.hessian'))) {
    source.close();
    throw new ConvertError('bad_source', `${file} holds no second moments (no tensor named *.hessian)`);
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
    close: () => {
      source.close();
    },
  };
}
