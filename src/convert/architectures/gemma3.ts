/** Gemma 3, text: windows with a rotary table of their own, norms of inputs and outputs, GELU. */
import type { Architecture, LayerKind } from '../../model/manifest.js';
import type { Description, Family } from './description.js';
import { patternOf, windowOf } from './description.js';
import type { Fields } from './fields.js';
import { slidingLayers } from './layer-types.js';
import { changed, plainConfig, plainMetadata } from './plain.js';
import { ropeFields, rotaryOf } from './rotary.js';

/** Every sixth layer attends to all positions. llama.cpp assumes it for every file. */
const PATTERN = 6;
const [GLOBAL_THETA, LOCAL_THETA] = [1e6, 1e4];
/** Layers of the 27B model, whose scores have another scale; its GGUF file does not say so. */
const LAYERS_OF_27B = 62;

export const gemma3: Family = {
  classes: { Gemma3ForCausalLM: 'gemma3_text' },
  // The text part of the models with images leaves most fields out.
  defaults: {
    vocab_size: 262_208,
    num_attention_heads: 8,
    num_key_value_heads: 4,
    head_dim: 256,
    hidden_activation: 'gelu_pytorch_tanh',
    max_position_embeddings: 131_072,
    query_pre_attn_scalar: 256,
    sliding_window: 4096,
  },
  gguf: ['gemma3'],
  fromConfig(config) {
    for (const key of ['final_logit_softcapping', 'use_bidirectional_attention'])
      if (config.get(key) !== undefined && config.get(key) !== false)
        throw config.fault('unsupported_feature', key, 'absent');
    const plain = plainConfig(config, { theta: GLOBAL_THETA });
    const { layers, context, headDim } = plain.architecture;
    const interval = config.number('sliding_window_pattern', PATTERN);
    const sliding = slidingLayers(config, layers, (index) => (index + 1) % interval !== 0);
    return differs(plain, sliding, config.number('sliding_window'), {
      attentionScale: config.number('query_pre_attn_scalar') ** -0.5,
      softcap: config.optional('attn_logit_softcapping'),
      rotary: tables(config, { headDim, context }),
    });
  },
  fromMetadata(metadata) {
    const { fields } = metadata;
    const plain = plainMetadata(metadata, { theta: GLOBAL_THETA });
    const { layers, hidden, heads, headDim, rotary } = plain.architecture;
    const [global] = rotary;
    const sliding = Array.from({ length: layers }, (_, i) => (i + 1) % PATTERN !== 0);
    return differs(plain, sliding, fields.optional('attention.sliding_window'), {
      activation: 'gelu_tanh',
      attentionScale: (layers === LAYERS_OF_27B ? hidden / heads : headDim) ** -0.5,
      rotary: [
        ...(global ? [global] : []),
        { theta: fields.number('rope.freq_base_swa', LOCAL_THETA), width: headDim, scaling: null },
      ],
    });
  },
  tensors: () => ({
    mlpNorm: { stored: 'pre_feedforward_layernorm.weight' },
    attnOutNorm: { stored: 'post_attention_layernorm.weight' },
    mlpOutNorm: { stored: 'post_feedforward_layernorm.weight' },
  }),
  normOffset: 1,
};

/** Table 0 is that of full attention, table 1 that of windows. */
function tables(config: Fields, sizes: Pick<Architecture, 'headDim' | 'context'>): Architecture['rotary'] {
  const rope = ropeFields(config);
  const isNested = rope.get('full_attention') !== undefined;
  const full = isNested ? rope.within('full_attention') : rope;
  const local = rope.within('sliding_attention');
  return [
    rotaryOf(config, { ...sizes, theta: GLOBAL_THETA }, full),
    {
      ...rotaryOf(config, { ...sizes, theta: LOCAL_THETA }, local),
      theta: local.number('rope_theta', config.number('rope_local_base_freq', LOCAL_THETA)),
    },
  ];
}

function differs(
  plain: Description,
  sliding: readonly boolean[],
  positions: number | null,
  fields: Partial<Architecture>,
): Description {
  const { hidden, context } = plain.architecture;
  const window = windowOf(positions, context);
  const kinds: LayerKind[] = sliding.map((slides) => (slides ? { rotary: 1, window } : { rotary: 0, window: null }));
  const embeddingScale = Math.sqrt(hidden);
  return changed(plain, { norms: 'both', qkNorm: 'head', embeddingScale, pattern: patternOf(kinds), ...fields });
}
