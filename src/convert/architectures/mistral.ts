/** Mistral, Ministral (2410) and Ministral 3 (2512), dense. Their GGUF files up to 2025 say `llama`. */
import type { Family } from './description.js';
import { slidingLayers, windowed } from './layer-types.js';
import { changed, plainConfig, plainMetadata } from './plain.js';
import { ropeFields } from './rotary.js';

/** A window in all layers, or in those that a Ministral's config names. */
export const mistral: Family = {
  classes: { MistralForCausalLM: 'mistral', MinistralForCausalLM: 'ministral' },
  defaults: { sliding_window: 4096 },
  fromConfig(config) {
    const plain = plainConfig(config);
    const sliding = slidingLayers(config, plain.architecture.layers, () => true);
    return windowed(plain, config.optional('sliding_window'), sliding);
  },
};

/** Queries that grow with the position. */
export const ministral3: Family = {
  classes: { Ministral3ForCausalLM: 'ministral3' },
  defaults: { head_dim: 128 },
  gguf: ['mistral3'],
  fromConfig(config) {
    const rope = ropeFields(config);
    const beta = rope.number('llama_4_scaling_beta');
    const queryGrowth = beta === 0 ? null : { beta, originalContext: rope.number('original_max_position_embeddings') };
    return windowed(changed(plainConfig(config), { queryGrowth }), config.optional('sliding_window'));
  },
  fromMetadata(metadata) {
    const beta = metadata.fields.number('attention.temperature_scale', 0);
    const originalContext = metadata.fields.number('rope.scaling.original_context_length', 0);
    return changed(plainMetadata(metadata), { queryGrowth: beta === 0 ? null : { beta, originalContext } });
  },
  alternates: true,
};
