/** Gemma 2 and Gemma 3, text: windows, norms of inputs and outputs, GELU, multiplied embeddings. */
import type { Architecture } from '../../engine/model/architecture.js';
import { changed, plainConfig, plainMetadata, slidingLayers, windowed, windowOf, withKinds } from './family.js';
import type { Description, Differences, Family } from './family.js';
import type { Fields } from './fields.js';
import { ropeFields, rotaryOf } from './rotary.js';

/** Fields that configs leave out, above all those of text parts beside images. */
const DEFAULTS = {
  num_attention_heads: 8,
  num_key_value_heads: 4,
  head_dim: 256,
  hidden_activation: 'gelu_pytorch_tanh',
  query_pre_attn_scalar: 256,
  sliding_window: 4096,
};
const TENSORS: Differences = {
  mlpNorm: { stored: 'pre_feedforward_layernorm.weight' },
  attnOutNorm: { stored: 'post_attention_layernorm.weight' },
  mlpOutNorm: { stored: 'post_feedforward_layernorm.weight' },
};
const GLOBAL_THETA = 1e6;
const LOCAL_THETA = 1e4;

/** Every second layer has a window; scores and logits are bounded. */
export const gemma2: Family = {
  classes: { Gemma2ForCausalLM: 'gemma2' },
  defaults: { ...DEFAULTS, attn_logit_softcapping: 50, final_logit_softcapping: 30 },
  gguf: ['gemma2'],
  fromConfig(config) {
    const plain = changed(fromConfig(config, {}), { softcap: config.optional('attn_logit_softcapping') });
    return windowed(plain, config.optional('sliding_window'), slidingLayers(config, plain, isSliding(2)));
  },
  fromMetadata(metadata) {
    const { fields } = metadata;
    const plain = gemma(plainMetadata(metadata));
    const { architecture } = plain;
    const bounded = changed(plain, {
      attentionScale: scaleOf(architecture, 46),
      softcap: fields.optional('attn_logit_softcapping'),
      logitSoftcap: fields.optional('final_logit_softcapping'),
    });
    const sliding = Array.from({ length: architecture.layers }, (_, i) => isSliding(2)(i));
    return windowed(bounded, fields.optional('attention.sliding_window'), sliding);
  },
  tensors: () => TENSORS,
  normOffset: 1,
};

/** Five of six layers have a window and a rotary table of their own; queries and keys have norms. */
export const gemma3: Family = {
  classes: { Gemma3ForCausalLM: 'gemma3_text' },
  defaults: { ...DEFAULTS, vocab_size: 262_208, max_position_embeddings: 131_072 },
  gguf: ['gemma3'],
  fromConfig(config) {
    const plain = fromConfig(config, { theta: GLOBAL_THETA });
    // transformers' class has the field and does not use it.
    if (config.optional('attn_logit_softcapping') !== null) throw config.fault('attn_logit_softcapping', 'absent');
    const sliding = slidingLayers(config, plain, isSliding(config.number('sliding_window_pattern', 6)));
    const tabled = changed(plain, { qkNorm: 'head', rotary: tables(config, plain.architecture) });
    return withTwoTables(tabled, config.optional('sliding_window'), (i) => sliding[i] === true);
  },
  fromMetadata(metadata) {
    const { fields } = metadata;
    const plain = gemma(plainMetadata(metadata, { theta: GLOBAL_THETA }));
    const { headDim, rotary } = plain.architecture;
    const local = { theta: fields.number('rope.freq_base_swa', LOCAL_THETA), width: headDim, scaling: null };
    const attentionScale = scaleOf(plain.architecture, 62);
    const tabled = changed(plain, { qkNorm: 'head', attentionScale, rotary: [...rotary, local] });
    return withTwoTables(tabled, fields.optional('attention.sliding_window'), isSliding(6));
  },
  tensors: () => TENSORS,
  normOffset: 1,
};

function fromConfig(config: Fields, defaults: { theta?: number }): Description {
  if (config.flag('use_bidirectional_attention')) throw config.fault('use_bidirectional_attention', 'false');
  return changed(gemma(plainConfig(config, defaults)), {
    attentionScale: config.number('query_pre_attn_scalar') ** -0.5,
    logitSoftcap: config.optional('final_logit_softcapping'),
  });
}

/** The parts that all models of the family share. */
function gemma(plain: Description): Description {
  const embeddingScale = Math.sqrt(plain.architecture.hidden);
  return changed(plain, { norms: 'both', activation: 'gelu_tanh', embeddingScale });
}

/** Every `interval`th layer attends to all positions. llama.cpp assumes the class's interval for every file. */
const isSliding =
  (interval: number) =>
  (index: number): boolean =>
    (index + 1) % interval !== 0;

/** The scale of the scores in a GGUF file, which does not state it: another one for the 27B model, by its layers. */
function scaleOf({ layers, hidden, heads, headDim }: Architecture, layersOf27B: number): number {
  return (layers === layersOf27B ? hidden / heads : headDim) ** -0.5;
}

/** Table 0 is that of full attention, table 1 that of windows. */
function tables(config: Fields, sizes: Pick<Architecture, 'headDim' | 'context'>): Architecture['rotary'] {
  const rope = ropeFields(config);
  const full = rope.get('full_attention') === undefined ? rope : rope.within('full_attention');
  const local = rope.within('sliding_attention');
  return [
    rotaryOf(config, { ...sizes, theta: GLOBAL_THETA }, full),
    {
      ...rotaryOf(config, { ...sizes, theta: LOCAL_THETA }, local),
      theta: local.number('rope_theta', config.number('rope_local_base_freq', LOCAL_THETA)),
    },
  ];
}

function withTwoTables(plain: Description, positions: number | null, slides: (index: number) => boolean): Description {
  const window = windowOf(positions, plain);
  return withKinds(plain, (i) => (slides(i) ? { rotary: 1, window } : { rotary: 0, window: null }));
}
