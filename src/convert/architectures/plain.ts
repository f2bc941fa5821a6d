/** The reader of a Llama, from which the other readers state their differences. */
import { type Architecture, PLAIN } from '../../engine/model/architecture.js';
import type { Description, GgufFields } from './description.js';
import type { Fields } from './fields.js';
import { rotaryOf, rotaryOfMetadata, type RotaryDefaults } from './rotary.js';

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
  return description({
    ...PLAIN,
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
    attentionScale: headDim ** -0.5,
    rotary: [rotaryOf(config, { ...defaults, headDim, context })],
    pattern: [...PLAIN.pattern],
  });
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
  return description({
    ...PLAIN,
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
    attentionScale: headDim ** -0.5,
    rotary: [rotaryOfMetadata(metadata, { ...defaults, headDim, context })],
    pattern: [...PLAIN.pattern],
  });
}

/** A number, or one for each layer that is the same for all. */
function kvHeadsOf(fields: Fields, heads: number): number {
  const key = 'attention.head_count_kv';
  if (!Array.isArray(fields.get(key))) return fields.number(key, heads);
  const [first = NaN, ...others] = fields.numbers(key) ?? [];
  if (others.some((count) => count !== first)) throw fields.fault(key, 'the same for all layers');
  return first;
}

function description(architecture: Architecture): Description {
  return { architecture, residualScale: 1, logitScale: 1 };
}

/** The same description with other fields of the architecture. */
export function changed(description: Description, fields: Partial<Architecture>): Description {
  return { ...description, architecture: { ...description.architecture, ...fields } };
}

function activationOf(config: Fields): Architecture['activation'] {
  const key = config.get('hidden_activation') === undefined ? 'hidden_act' : 'hidden_activation';
  switch (config.get(key) ?? 'silu') {
    case 'silu':
      return 'silu';
    case 'gelu_pytorch_tanh':
      return 'gelu_tanh';
    default:
      throw config.fault(key, 'silu or gelu_pytorch_tanh');
  }
}
