/** Descriptions of models by their readers, and the reader of a Llama, from which the others state differences. */
import { type Architecture, type LayerKind, PLAIN, type Rotary } from '../../engine/model/architecture.js';
import type { Part, Recipe } from '../source.js';
import type { Fields, GgufFields } from './fields.js';
import { rotaryOf, rotaryOfMetadata, type RotaryDefaults } from './rotary.js';

export interface Description {
  readonly architecture: Architecture;
  /** Multiplier of the outputs of attention and MLP; the weights of their last projection take it. */
  readonly residualScale: number;
  /** Multiplier of the logits; the norms in front of the head take it. */
  readonly logitScale: number;
}

/** Recipes that differ from those of a Llama, by part. */
export type Differences = Partial<Record<Part, Recipe>>;

/** An architecture that the converter reads. */
export interface Family {
  /** Names of the classes in `architectures` of config.json, with their `model_type`. */
  readonly classes: Readonly<Record<string, string>>;
  /** Fields that the class has if the config leaves them out. */
  readonly defaults?: Readonly<Record<string, unknown>>;
  /** Values of `general.architecture` of GGUF files; absent: none of its own. */
  readonly gguf?: readonly string[];
  /** @throws ConvertError for a field that the graphs cannot follow */
  fromConfig(config: Fields): Description;
  /** The same for a GGUF file; absent: as of a Llama. */
  fromMetadata?(metadata: GgufFields): Description;
  /** Tensors of a folder's layer that are not named or packed like a Llama's. */
  readonly tensors?: (arch: Architecture) => Differences;
  /** The same for a GGUF file. */
  readonly ggufTensors?: (arch: Architecture) => Differences;
  /** Added to the weights of all norms in a folder; GGUF files hold the sums. */
  readonly normOffset?: number;
  /** Whether a GGUF file stores the rows of q and k in alternating rotary order. */
  readonly alternates?: boolean;
  /**
   * A folder's linear layer from a loop's end to one value, the probability to stop there: its `.weight` and `.bias`.
   */
  readonly gate?: string;
  /**
   * Published right answers of the class by loop, as a share of those of all loops; 0 for a loop without a figure. It
   * counts for a model with as many loops.
   */
  readonly loopAccuracy?: readonly number[];
}

/** Rotation of a family. */
type Defaults = Pick<RotaryDefaults, 'theta' | 'partial'>;

/** Reads config.json. @throws ConvertError if a field is missing or has another type */
export function plainConfig(config: Fields, defaults: Defaults = {}): Description {
  if (config.flag('mlp_bias')) throw config.fault('mlp_bias', 'false');
  const hidden = config.number('hidden_size');
  const heads = config.number('num_attention_heads');
  const headDim = config.number('head_dim', hidden / heads);
  const context = config.number('max_position_embeddings');
  const bias = config.flag('attention_bias');
  const arch = {
    layers: config.number('num_hidden_layers'),
    hidden,
    heads,
    kvHeads: config.number('num_key_value_heads', heads),
    headDim,
    ffn: config.number('intermediate_size'),
    vocab: config.number('vocab_size'),
    context,
    normEps: config.number('rms_norm_eps', 1e-6),
    tiedHead: config.flag('tie_word_embeddings'),
    qkvBias: bias,
    outputBias: bias,
    activation: activationOf(config),
  };
  return plain(arch, rotaryOf(config, { ...defaults, headDim, context }));
}

/** Reads GGUF metadata. @throws ConvertError if a field is missing or has another type */
export function plainMetadata(metadata: GgufFields, defaults: Defaults = {}): Description {
  const { fields, vocab } = metadata;
  if (fields.number('expert_count', 0) > 0)
    throw fields.fault('expert_count', '0 (mixture-of-experts models are not supported)');
  const hidden = fields.number('embedding_length');
  const heads = fields.number('attention.head_count');
  const headDim = fields.number('attention.key_length', hidden / heads);
  const context = fields.number('context_length');
  const arch = {
    layers: fields.number('block_count'),
    hidden,
    heads,
    kvHeads: kvHeadsOf(fields, heads),
    headDim,
    ffn: fields.number('feed_forward_length'),
    vocab,
    context,
    normEps: Number(fields.number('attention.layer_norm_rms_epsilon').toPrecision(7)),
    tiedHead: !metadata.has('output.weight'),
    qkvBias: metadata.has('blk.0.attn_q.bias'),
    outputBias: metadata.has('blk.0.attn_output.bias'),
  };
  return plain(arch, rotaryOfMetadata(metadata, { ...defaults, headDim, context }));
}

type Sizes = Omit<Architecture, keyof typeof PLAIN | 'attentionScale' | 'rotary'> & Partial<Architecture>;

function plain(sizes: Sizes, rotary: Rotary): Description {
  const attentionScale = sizes.headDim ** -0.5;
  const architecture = { ...PLAIN, ...sizes, attentionScale, rotary: [rotary], pattern: [...PLAIN.pattern] };
  return { architecture, residualScale: 1, logitScale: 1 };
}

/** A number, or one for each layer that is the same for all. */
function kvHeadsOf(fields: Fields, heads: number): number {
  const key = 'attention.head_count_kv';
  if (!Array.isArray(fields.get(key))) return fields.number(key, heads);
  const [first = NaN, ...others] = fields.numbers(key) ?? [];
  if (others.some((count) => count !== first)) throw fields.fault(key, 'the same for all layers');
  return first;
}

function activationOf(config: Fields): Architecture['activation'] {
  const key = config.get('hidden_activation') === undefined ? 'hidden_act' : 'hidden_activation';
  const value = config.get(key) ?? 'silu';
  if (value === 'silu') return 'silu';
  if (value === 'gelu_pytorch_tanh') return 'gelu_tanh';
  throw config.fault(key, 'silu or gelu_pytorch_tanh');
}

/** The same description with other fields of the architecture. */
export function changed(description: Description, fields: Partial<Architecture>): Description {
  return { ...description, architecture: { ...description.architecture, ...fields } };
}

/** The same description with the kinds of its layers by index: the shortest pattern that repeats to all of them. */
export function withKinds(description: Description, kindOf: (index: number) => LayerKind): Description {
  const kinds = Array.from({ length: description.architecture.layers }, (_, i) => kindOf(i));
  const equal = (a: LayerKind | undefined, b: LayerKind | undefined): boolean =>
    JSON.stringify(a) === JSON.stringify(b);
  let period = 1;
  while (!kinds.every((kind, i) => equal(kind, kinds[i % period]))) period++;
  return changed(description, { pattern: kinds.slice(0, period) });
}

/** The window of a layer; null if no sequence is longer. */
export function windowOf(positions: number | null, { architecture }: Description): number | null {
  return positions === null || positions >= architecture.context ? null : positions;
}

/**
 * Gives layers with one rotary table a window.
 * @param positions of the window; null for none
 * @param sliding whether each layer has the window; absent: all have it
 */
export function windowed(plain: Description, positions: number | null, sliding?: readonly boolean[]): Description {
  const window = windowOf(positions, plain);
  if (sliding === undefined) return changed(plain, { pattern: [{ rotary: 0, window }] });
  return withKinds(plain, (i) => ({ rotary: 0, window: sliding[i] ? window : null }));
}

/**
 * Whether each layer attends to a window only, by `layer_types`.
 * @param fallback for a config without `layer_types`, by index of the layer
 * @throws ConvertError for a layer of another type, such as a recurrent one
 */
export function slidingLayers(
  config: Fields,
  { architecture: { layers } }: Description,
  fallback: (index: number) => boolean,
): boolean[] {
  const types = config.list('layer_types');
  if (types === null) return Array.from({ length: layers }, (_, i) => fallback(i));
  if (types.length < layers) throw config.fault('layer_types', `a list of ${layers} types`);
  const known = ['full_attention', 'attention', 'sliding_attention'];
  if (!types.slice(0, layers).every((type) => typeof type === 'string' && known.includes(type)))
    throw config.fault('layer_types', 'full_attention or sliding_attention for each layer');
  return types.slice(0, layers).map((type) => type === 'sliding_attention');
}
