/** Mistral, Ministral (2410) and Ministral 3 (2512), dense. Their GGUF files up to 2025 say `llama`. */
import type { Family } from './description.js';
import { patternOf, windowOf } from './description.js';
import { slidingKinds, slidingLayers } from './layer-types.js';
import { changed, plainConfig, plainMetadata } from './plain.js';
import { ropeFields } from './rotary.js';

/** A window in all layers. */
export const mistral: Family = {
  classes: { MistralForCausalLM: 'mistral' },
  defaults: { sliding_window: 4096 },
  gguf: [],
  fromConfig(config) {
    const plain = plainConfig(config);
    const window = windowOf(config.optional('sliding_window'), plain.architecture.context);
    return changed(plain, { pattern: [{ rotary: 0, window }] });
  },
  fromMetadata: (metadata) => plainMetadata(metadata),
};

/** A window in the layers that the config names. */
export const ministral: Family = {
  classes: { MinistralForCausalLM: 'ministral' },
  defaults: { sliding_window: 4096 },
  gguf: [],
  fromConfig(config) {
    const plain = plainConfig(config);
    const { layers, context } = plain.architecture;
    const sliding = slidingLayers(config, layers, () => true);
    return changed(plain, { pattern: patternOf(slidingKinds(sliding, config.optional('sliding_window'), context)) });
  },
  fromMetadata: (metadata) => plainMetadata(metadata),
};

/** Queries that grow with the position. */
export const ministral3: Family = {
  classes: { Ministral3ForCausalLM: 'ministral3' },
  defaults: { head_dim: 128 },
  gguf: ['mistral3'],
  fromConfig(config) {
    const plain = plainConfig(config);
    const rope = ropeFields(config);
    const { context } = plain.architecture;
    const beta = rope.number('llama_4_scaling_beta');
    return changed(plain, {
      queryGrowth: beta === 0 ? null : { beta, originalContext: rope.number('original_max_position_embeddings') },
      pattern: [{ rotary: 0, window: windowOf(config.optional('sliding_window'), context) }],
    });
  },
  fromMetadata(metadata) {
    const beta = metadata.fields.number('attention.temperature_scale', 0);
    const originalContext = metadata.fields.number('rope.scaling.original_context_length', 0);
    return changed(plainMetadata(metadata), { queryGrowth: beta === 0 ? null : { beta, originalContext } });
  },
  alternates: true,
};
