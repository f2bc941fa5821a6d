/**
 * Rotary position embedding as transformers computes it (modeling_rope_utils.py): frequencies with their scaling, and
 * the cosine and sine tables of a context.
 *
 * ONNX Runtime rotates a multiple of 16 channels of each head, and pairs channel i with channel i + width / 2. For
 * another width, channels of queries and keys take another order, the same in both, which leaves their products as they
 * are. The wider table has pairs that do not turn (cosine 1, sine 0), and channels beyond the model's width fill them.
 */
import type { RopeScaling, Rotary } from '../engine/model/architecture.js';
import type { StageLayer } from './graphs/layer.js';
import { LAYER, type SourceTensor } from './source.js';
import { inOrder, reordered } from './weight.js';

const STEP = 16;
const PARTS: readonly string[] = [LAYER.q, LAYER.k, LAYER.qBias, LAYER.kBias, LAYER.qNorm, LAYER.kNorm];

type Scaling<Type extends RopeScaling['type']> = Extract<RopeScaling, { type: Type }>;

/**
 * Inverse frequency of each of the width / 2 rotary pairs, rounded to 32-bit floats as in transformers.
 * @param context most positions of a sequence
 */
export function inverseFrequencies(rotary: Rotary, context: number): Float32Array {
  const { width, theta } = rotary;
  const divisor = divisorOf(rotary, context);
  return Float32Array.from({ length: width / 2 }, (_, i) => {
    const frequency = Math.fround(1 / Math.fround(theta ** ((2 * i) / width)));
    return frequency / divisor(frequency, i);
  });
}

/** The divisor of a pair's frequency. */
function divisorOf({ width, theta, scaling }: Rotary, context: number): (frequency: number, i: number) => number {
  switch (scaling?.type) {
    case undefined:
      return () => 1;
    case 'linear':
      return () => scaling.factor;
    case 'llama3':
      return (frequency) => llama3Factor(frequency, scaling);
    case 'yarn':
      return yarnFactor(width, theta, scaling);
    case 'longrope':
      return longDivisor(scaling, context);
    case 'proportional':
      // An infinite divisor leaves a pair where it is.
      return (_, i) => (i < scaling.pairs ? scaling.factor : Infinity);
  }
}

/** The divisor of llama3 scaling for a frequency: 1 for short wavelengths, `factor` for long ones, smooth between. */
export function llama3Factor(frequency: number, scaling: Scaling<'llama3'>): number {
  const wavelength = (2 * Math.PI) / frequency;
  const { factor, lowFreqFactor, highFreqFactor, originalContext } = scaling;
  if (wavelength < originalContext / highFreqFactor) return 1;
  if (wavelength > originalContext / lowFreqFactor) return factor;
  const smooth = (originalContext / wavelength - lowFreqFactor) / (highFreqFactor - lowFreqFactor);
  return 1 / ((1 - smooth) / factor + smooth);
}

/** The divisor of yarn (arXiv 2309.00071): 1 for pairs that turn often in the original context, then up to `factor`. */
function yarnFactor(width: number, theta: number, scaling: Scaling<'yarn'>): (frequency: number, i: number) => number {
  const { factor, betaFast, betaSlow, originalContext, truncate } = scaling;
  /** The pair that makes this number of turns in the original context. */
  const pairOf = (turns: number): number =>
    (width * Math.log(originalContext / (turns * 2 * Math.PI))) / (2 * Math.log(theta));
  const fast = pairOf(betaFast);
  const slow = pairOf(betaSlow);
  const low = Math.max(truncate ? Math.floor(fast) : fast, 0);
  const most = Math.min(truncate ? Math.ceil(slow) : slow, width - 1);
  // A ramp without length would divide by zero.
  const high = most === low ? most + 0.001 : most;
  return (_, i) => {
    const ramp = Math.min(1, Math.max(0, (i - low) / (high - low)));
    return 1 / (ramp / factor + 1 - ramp);
  };
}

/** The divisor of longrope (arXiv 2402.13753): one set of factors serves all positions, since keys are kept. */
function longDivisor(
  { shortFactors, longFactors, originalContext }: Scaling<'longrope'>,
  context: number,
): (frequency: number, i: number) => number {
  const factors = context > originalContext ? longFactors : shortFactors;
  return (_, i) => factors[i] ?? 1;
}

/** The least width of the kernels that has the model's. */
export function kernelWidth({ width }: Rotary): number {
  return Math.ceil(width / STEP) * STEP;
}

/** The source's channel at each place of a head; null for a width that the kernels have. */
export function channelOrder(rotary: Rotary, headDim: number): readonly number[] | null {
  const { width } = rotary;
  const wide = kernelWidth(rotary);
  if (wide === width) return null;
  const half = width / 2;
  let still = width;
  return Array.from({ length: headDim }, (_, place) => {
    const inHalf = place < wide ? place % (wide / 2) : Infinity;
    return inHalf < half ? inHalf + (place < wide / 2 ? 0 : half) : still++;
  });
}

/** Tables [context, kernelWidth / 2]. The angle is a 32-bit product, as in transformers. */
export function kernelTables(rotary: Rotary, context: number): { cos: Float32Array; sin: Float32Array } {
  const frequencies = inverseFrequencies(rotary, context);
  const { scaling } = rotary;
  const factor = scaling !== null && 'attentionFactor' in scaling ? scaling.attentionFactor : 1;
  const width = kernelWidth(rotary) / 2;
  const cos = new Float32Array(context * width).fill(1);
  const sin = new Float32Array(context * width);
  for (let p = 0; p < context; p++)
    for (let i = 0; i < frequencies.length; i++) {
      const angle = Math.fround(p * (frequencies[i] ?? 0));
      cos[p * width + i] = Math.cos(angle) * factor;
      sin[p * width + i] = Math.sin(angle) * factor;
    }
  return { cos, sin };
}

/** The layer with its queries and keys in the order of the kernels. */
export function orderedLayer(layer: StageLayer): StageLayer {
  const { source, prefix, kind, arch, calibration } = layer;
  const rotary = kind.rotary === null ? undefined : arch.rotary[kind.rotary];
  const order = rotary === undefined ? null : channelOrder(rotary, arch.headDim);
  if (order === null) return layer;
  const tensor = (name: string): SourceTensor => {
    const found = source.tensor(name);
    return PARTS.includes(name.slice(prefix.length)) ? reordered(found, order) : found;
  };
  const kvRange = (channels: number) => {
    const range = calibration.kvRange(channels);
    return range && { ...range, k: inOrder(range.k, 1, order) };
  };
  return { ...layer, source: { tensor }, calibration: { ...calibration, kvRange } };
}
