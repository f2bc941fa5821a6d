/** Reads rotary tables from config.json and from GGUF metadata. */
import type { RopeScaling, Rotary } from '../../engine/model/architecture.js';
import { ConvertError } from '../conversion-error.js';
import { inverseFrequencies, llama3Factor } from '../rope.js';
import type { Fields, GgufFields } from './fields.js';

export interface RotaryDefaults {
  /** Head size. */
  readonly headDim: number;
  readonly context: number;
  /** Base of a source that states none; absent: 10,000. */
  readonly theta?: number;
  /** Share of each head's channels that rotate; absent: all. */
  readonly partial?: number;
}

const THETA = 10_000;
const KINDS = 'none, linear, llama3, yarn or longrope';

/**
 * The table of `rope_parameters` (transformers 5), or of `rope_scaling` and `rope_theta` (earlier versions).
 * @param config the whole config.json
 * @param rope `rope_parameters` or `rope_scaling`; default: those of the config
 */
export function rotaryOf(config: Fields, defaults: RotaryDefaults, rope = ropeFields(config)): Rotary {
  const { headDim, context, theta = THETA, partial = 1 } = defaults;
  return {
    theta: rope.number('rope_theta', config.number('rope_theta', theta)),
    width: Math.trunc(headDim * partial),
    scaling: scalingOf(config, rope, context),
  };
}

/** The object with the rope scaling of a config. */
export function ropeFields(config: Fields): Fields {
  const key = config.get('rope_parameters') === undefined ? 'rope_scaling' : 'rope_parameters';
  return config.within(key, 'an object or null');
}

/** The kind of scaling that a config names. Phi-3's first configs call longrope "su" or "yarn". */
function ropeType(rope: Fields): unknown {
  const type = rope.get('rope_type') ?? rope.get('type') ?? 'default';
  const isLong = rope.get('long_factor') !== undefined && (type === 'su' || type === 'yarn');
  return isLong ? 'longrope' : type;
}

function scalingOf(config: Fields, rope: Fields, context: number): RopeScaling | null {
  const original = 'original_max_position_embeddings';
  const originalContext = config.number(original, rope.number(original, context));
  switch (ropeType(rope)) {
    case 'default':
      return null;
    case 'linear':
      return { type: 'linear', factor: rope.number('factor') };
    case 'llama3':
      return {
        type: 'llama3',
        factor: rope.number('factor'),
        lowFreqFactor: rope.number('low_freq_factor'),
        highFreqFactor: rope.number('high_freq_factor'),
        originalContext,
      };
    case 'yarn': {
      const factor = rope.number('factor', context / originalContext);
      return {
        type: 'yarn',
        factor,
        betaFast: rope.number('beta_fast', 32),
        betaSlow: rope.number('beta_slow', 1),
        originalContext,
        attentionFactor: rope.optional('attention_factor') ?? yarnAttention(rope, factor),
        truncate: rope.flag('truncate', true),
      };
    }
    case 'longrope': {
      const factor = rope.number('factor', context / originalContext);
      const factors = (key: string): number[] => {
        const list = rope.numbers(key);
        if (list === null) throw rope.fault(key, 'a list of numbers');
        return list;
      };
      return {
        type: 'longrope',
        shortFactors: factors('short_factor'),
        longFactors: factors('long_factor'),
        originalContext,
        attentionFactor: rope.optional('attention_factor') ?? longAttention(factor, originalContext),
      };
    }
    default:
      throw rope.fault(rope.get('rope_type') === undefined ? 'type' : 'rope_type', KINDS);
  }
}

/** Yarn's multiplier of cosines and sines, as its paper suggests. */
function yarnAttention(rope: Fields, factor: number): number {
  const scale = rope.number('mscale', 0);
  const all = rope.number('mscale_all_dim', 0);
  return scale !== 0 && all !== 0 ? growth(factor, scale) / growth(factor, all) : growth(factor);
}

function growth(factor: number, scale = 1): number {
  return factor <= 1 ? 1 : 0.1 * scale * Math.log(factor) + 1;
}

/** Longrope's multiplier of cosines and sines. */
function longAttention(factor: number, originalContext: number): number {
  return factor <= 1 ? 1 : Math.sqrt(1 + Math.log(factor) / Math.log(originalContext));
}

/** The table of a GGUF file. */
export function rotaryOfMetadata(metadata: GgufFields, { headDim, context, theta = THETA }: RotaryDefaults): Rotary {
  const { fields } = metadata;
  const width = fields.number('rope.dimension_count', headDim);
  if (width > headDim) throw fields.fault('rope.dimension_count', `at most the head's ${headDim}`);
  const rotary = { theta: fields.number('rope.freq_base', theta), width, scaling: null };
  return { ...rotary, scaling: scalingOfMetadata(metadata, rotary, context) };
}

function scalingOfMetadata(metadata: GgufFields, rotary: Rotary, context: number): RopeScaling | null {
  const { fields, file } = metadata;
  const stated = fields.optional('rope.scaling.original_context_length');
  const originalContext = stated ?? context;
  const freqs = metadata.values('rope_freqs.weight');
  if (freqs !== null) return ropeScalingFromFactors(freqs, rotary, stated ?? 8192, file);
  const long = metadata.values('rope_factors_long.weight');
  const short = metadata.values('rope_factors_short.weight');
  const attention = 'rope.scaling.attn_factor';
  if (long !== null && short !== null)
    return {
      type: 'longrope',
      shortFactors: [...short],
      longFactors: [...long],
      originalContext,
      attentionFactor: fields.number(attention, longAttention(context / originalContext, originalContext)),
    };
  // llama.cpp reads a factor without a type as linear scaling, and 0 as none. rope.scale_linear is the older name.
  const factor = fields.number('rope.scaling.factor', fields.number('rope.scale_linear', 0));
  switch (fields.get('rope.scaling.type') ?? 'linear') {
    case 'none':
      return null;
    case 'linear':
      return factor === 0 || factor === 1 ? null : { type: 'linear', factor };
    case 'yarn': {
      // llama.cpp multiplies the paper's value by attn_factor, and divides by the growth of yarn_log_multiplier.
      const divisor = growth(factor, fields.number('rope.scaling.yarn_log_multiplier', 0));
      return {
        type: 'yarn',
        factor,
        betaFast: fields.number('rope.scaling.yarn_beta_fast', 32),
        betaSlow: fields.number('rope.scaling.yarn_beta_slow', 1),
        originalContext,
        attentionFactor: (fields.number(attention, 1) * growth(factor)) / divisor,
        truncate: true,
      };
    }
    default:
      throw fields.fault('rope.scaling.type', 'none, linear or yarn, or longrope with its factors');
  }
}

/**
 * llama3 scaling from the divisors of a rope_freqs tensor, which are not its parameters. Assumes low 1 and high 4, as
 * in every published llama3 checkpoint, and checks the result against the tensor.
 */
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
    const got = factors[i] ?? 0;
    const expected = llama3Factor(frequency, scaling);
    if (Math.abs(got - expected) <= 1e-3 * expected) return;
    throw new ConvertError(`${path}: rope_freqs[${i}] = ${got} is not a llama3 scaling (expected ${expected})`);
  });
  return scaling;
}
