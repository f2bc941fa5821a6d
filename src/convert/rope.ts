/**
 * Rotary position embedding as transformers computes it (modeling_rope_utils.py): frequencies with llama3 scaling, and
 * the cosine and sine tables of a context.
 */
import type { Architecture } from '../model/manifest.js';

type Scaling = NonNullable<Architecture['ropeScaling']>;

/** Inverse frequency of each of the headDim / 2 rotary pairs, rounded to 32-bit floats as in transformers. */
export function inverseFrequencies(headDim: number, theta: number, scaling: Scaling | null): Float32Array {
  return Float32Array.from({ length: headDim / 2 }, (_, i) => {
    const frequency = Math.fround(1 / Math.fround(theta ** ((2 * i) / headDim)));
    return frequency / (scaling ? llama3Factor(frequency, scaling) : 1);
  });
}

/** The divisor of llama3 scaling for a frequency: 1 for short wavelengths, `factor` for long ones, smooth between. */
export function llama3Factor(frequency: number, scaling: Scaling): number {
  const wavelength = (2 * Math.PI) / frequency;
  const { factor, lowFreqFactor, highFreqFactor, originalContext } = scaling;
  if (wavelength < originalContext / highFreqFactor) return 1;
  if (wavelength > originalContext / lowFreqFactor) return factor;
  const smooth = (originalContext / wavelength - lowFreqFactor) / (highFreqFactor - lowFreqFactor);
  return 1 / ((1 - smooth) / factor + smooth);
}

/** Tables [context, headDim / 2]. The angle is a 32-bit product, as in transformers. */
export function ropeTables(arch: Architecture): { cos: Float32Array; sin: Float32Array } {
  const frequencies = inverseFrequencies(arch.headDim, arch.ropeTheta, arch.ropeScaling);
  const width = frequencies.length;
  const cos = new Float32Array(arch.context * width);
  const sin = new Float32Array(arch.context * width);
  for (let p = 0; p < arch.context; p++)
    for (let i = 0; i < width; i++) {
      const angle = Math.fround(p * (frequencies[i] ?? 0));
      cos[p * width + i] = Math.cos(angle);
      sin[p * width + i] = Math.sin(angle);
    }
  return { cos, sin };
}
