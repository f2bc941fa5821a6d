/**
 * Gemma 4, text: heads of two sizes, inputs of each layer by token, and last layers that share keys and values. Vision
 * and audio are left out.
 */
import type { Rotary } from '../../engine/model/architecture.js';
import { changed, plainConfig, slidingLayers, windowOf, withKinds } from './family.js';
import type { Description, Differences, Family } from './family.js';
import { Fields, type GgufFields } from './fields.js';

const DEFAULTS = {
  vocab_size: 262_144,
  hidden_size: 2304,
  intermediate_size: 9216,
  num_hidden_layers: 30,
  num_attention_heads: 8,
  num_key_value_heads: 4,
  head_dim: 256,
  global_head_dim: 512,
  hidden_activation: 'gelu_pytorch_tanh',
  max_position_embeddings: 131_072,
  sliding_window: 512,
  hidden_size_per_layer_input: 256,
  tie_word_embeddings: true,
};

/** As of Gemma 3, whose norms of a layer have these names. */
const TENSORS: Differences = {
  mlpNorm: { stored: 'pre_feedforward_layernorm.weight' },
  attnOutNorm: { stored: 'post_attention_layernorm.weight' },
  mlpOutNorm: { stored: 'post_feedforward_layernorm.weight' },
};

const FULL = 'full_attention';
const SLIDING = 'sliding_attention';
/** Of rope_freqs: the divisor of a pair that does not turn. */
const STILL = 1e10;

export const gemma4: Family = {
  classes: { Gemma4ForCausalLM: 'gemma4_text' },
  defaults: DEFAULTS,
  gguf: ['gemma4'],
  fromConfig,
  fromMetadata: (metadata) => fromConfig(configOf(metadata)),
  tensors: () => TENSORS,
};

function fromConfig(config: Fields): Description {
  if (config.flag('enable_moe_block'))
    throw config.fault('enable_moe_block', 'false (mixture-of-experts models are not supported)');
  if (config.get('use_bidirectional_attention') === 'all')
    throw config.fault('use_bidirectional_attention', 'null or vision');
  const plain = plainConfig(config);
  const { layers, hidden, headDim, kvHeads, ffn, vocab } = plain.architecture;
  const perLayer = config.number('hidden_size_per_layer_input');
  if (perLayer > 0 && config.number('vocab_size_per_layer_input', vocab) !== vocab)
    throw config.fault('vocab_size_per_layer_input', `the vocabulary, ${vocab}`);
  // The class makes the last layer one of full attention.
  const sliding = slidingLayers(config, plain, (i) => (i + 1) % 6 !== 0).map((slides, i) => slides && i < layers - 1);
  const full = fullHeads(config, sliding.indexOf(false), { headDim, kvHeads });
  const shared = config.number('num_kv_shared_layers', 0);
  if (shared >= layers) throw config.fault('num_kv_shared_layers', `below the ${layers} layers`);
  const window = windowOf(config.optional('sliding_window'), plain);
  const description = changed(plain, {
    attentionScale: 1,
    qkNorm: 'head',
    valueNorm: true,
    norms: 'both',
    embeddingScale: Math.sqrt(hidden),
    layerScale: true,
    logitSoftcap: config.optional('final_logit_softcapping'),
    rotary: tables(config, full.headDim, headDim),
    ...(perLayer > 0 && { perLayer }),
    ...(shared > 0 && {
      sharing: { first: layers - shared, ffn: ffn * (config.flag('use_double_wide_mlp') ? 2 : 1) },
    }),
  });
  return withKinds(description, (i) =>
    sliding[i] ? { rotary: 1, window, headDim, kvHeads } : { rotary: 0, window: null, ...full },
  );
}

/** The heads of layers with full attention. transformers 5 lists how layers differ from the other fields. */
function fullHeads(config: Fields, layer: number, local: { readonly headDim: number; readonly kvHeads: number }) {
  const isListed = config.get('per_layer_config') !== undefined;
  const own = config.within('per_layer_config').within(String(layer));
  const keysAsValues = config.flag('attention_k_eq_v');
  const kvHeads = isListed || !keysAsValues ? null : config.optional('num_global_key_value_heads');
  return {
    headDim: own.number('head_dim', isListed ? local.headDim : config.number('global_head_dim')),
    kvHeads: own.number('num_key_value_heads', kvHeads ?? local.kvHeads),
    ...(keysAsValues && { keysAsValues }),
  };
}

/** Table 0 is that of full attention, table 1 that of windows. */
function tables(config: Fields, fullDim: number, localDim: number): Rotary[] {
  const rope = config.within('rope_parameters', 'an object or null');
  const full = rope.within(FULL);
  const local = rope.within(SLIDING);
  for (const [fields, type] of [[full, 'proportional'] as const, [local, 'default'] as const])
    if ((fields.get('rope_type') ?? type) !== type) throw fields.fault('rope_type', type);
  const share = full.number('partial_rotary_factor', config.get('rope_parameters') === undefined ? 0.25 : 1);
  const pairs = Math.floor((share * fullDim) / 2);
  const scaling = { type: 'proportional' as const, factor: full.number('factor', 1), pairs };
  return [
    { theta: full.number('rope_theta', 1e6), width: fullDim, scaling },
    { theta: local.number('rope_theta', 1e4), width: localDim, scaling: null },
  ];
}

/** The config.json that a GGUF file's metadata says. */
function configOf(metadata: GgufFields): Fields {
  const { file, fields, vocab } = metadata;
  if (fields.number('expert_count', 0) > 0)
    throw fields.fault('expert_count', '0 (mixture-of-experts models are not supported)');
  const layers = fields.number('block_count');
  const each = (key: string): readonly number[] =>
    Array.isArray(fields.get(key)) ? (fields.numbers(key) ?? []) : new Array<number>(layers).fill(fields.number(key));
  const sliding = fields.list('attention.sliding_window_pattern') ?? [];
  if (sliding.length !== layers) throw fields.fault('attention.sliding_window_pattern', `a list of ${layers} flags`);
  const full = sliding.indexOf(false);
  const kvHeads = each('attention.head_count_kv');
  const [ffn = NaN, ...ffns] = each('feed_forward_length');
  const headDim = fields.number('attention.key_length');
  const turning = metadata.values('rope_freqs.weight')?.filter((divisor) => divisor < STILL).length ?? headDim / 2;
  const config: Record<string, unknown> = {
    num_hidden_layers: layers,
    hidden_activation: DEFAULTS.hidden_activation,
    hidden_size: fields.number('embedding_length'),
    intermediate_size: ffn,
    use_double_wide_mlp: ffns.at(-1) === 2 * ffn,
    vocab_size: vocab,
    max_position_embeddings: fields.number('context_length'),
    rms_norm_eps: Number(fields.number('attention.layer_norm_rms_epsilon').toPrecision(7)),
    tie_word_embeddings: !metadata.has('output.weight'),
    num_attention_heads: fields.number('attention.head_count'),
    num_key_value_heads: kvHeads[sliding.indexOf(true)],
    head_dim: fields.number('attention.key_length_swa'),
    per_layer_config: { [full]: { head_dim: headDim, num_key_value_heads: kvHeads[full] } },
    attention_k_eq_v: !metadata.has(`blk.${full}.attn_v.weight`),
    layer_types: sliding.map((slides) => (slides === true ? SLIDING : FULL)),
    sliding_window: fields.optional('attention.sliding_window'),
    num_kv_shared_layers: fields.number('attention.shared_kv_layers', 0),
    hidden_size_per_layer_input: fields.number('embedding_length_per_layer_input', 0),
    final_logit_softcapping: fields.optional('final_logit_softcapping'),
    rope_parameters: {
      // Half a pair more, against rounding.
      [FULL]: { rope_theta: fields.get('rope.freq_base'), partial_rotary_factor: (2 * turning + 1) / headDim },
      [SLIDING]: { rope_theta: fields.get('rope.freq_base_swa') },
    },
  };
  return new Fields(
    (key) => config[key],
    (key) => `${file}: ${key}`,
  );
}
