/**
 * llama3 rope scaling from GGUF's rope_freqs tensor. The tensor holds the divisors but not the parameters behind them.
 */
import type { RopeScaling, Rotary } from '../../model/architecture.js';
import { ConvertError } from '../errors.js';
import { inverseFrequencies, llama3Factor } from '../rope.js';

/** Assumes low 1 and high 4, as in every published llama3 checkpoint, and checks the result against the tensor. */
export function ropeScalingFromFactors(
  factors: Float32Array,
  rotary: Rotary,
  originalContext: number,
  path: string,
): RopeScaling | null {
  const factor = factors.reduce((a, b) => Math.max(a, b), 1);
  if (factor === 1) return null;
  const scaling = { type: 'llama3' as const, factor, lowFreqFactor: 1, highFreqFactor: 4, originalContext };
  inverseFrequencies({ ...rotary, scaling: null }, 0).forEach((frequency, i) => {
    const expected = llama3Factor(frequency, scaling);
    if (Math.abs((factors[i] ?? 0) - expected) > 1e-3 * expected)
      throw new ConvertError(
        'unsupported_feature',
        `${path}: rope_freqs[${i}] = ${factors[i]} is not a llama3 scaling (expected ${expected})`,
      );
  });
  return scaling;
}
