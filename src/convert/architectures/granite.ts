/** Granite 3 and 4, dense: multipliers of embeddings, scores, residual and logits. */
import type { Architecture } from '../../engine/model/architecture.js';
import type { Description, Differences, Family } from './description.js';
import type { Fields } from './fields.js';
import { slidingLayers } from './layer-types.js';
import { changed, plainConfig, plainMetadata } from './plain.js';

export const granite: Family = {
  classes: { GraniteForCausalLM: 'granite' },
  gguf: ['granite'],
  fromConfig: (config) => multiplied(plainConfig(config), config),
  fromMetadata(metadata) {
    const { fields } = metadata;
    const plain = plainMetadata(metadata);
    return {
      ...changed(plain, {
        embeddingScale: fields.number('embedding_scale', 1),
        attentionScale: fields.number('attention.scale', plain.architecture.attentionScale),
      }),
      residualScale: fields.number('residual_scale', 1),
      logitScale: 1 / fields.number('logit_scale', 1),
    };
  },
  alternates: true,
};

/**
 * The class of Granite 4. Its dense models have attention in all layers and one packed MLP; GGUF files say `granite`.
 */
export const graniteHybrid: Family = {
  classes: { GraniteMoeHybridForCausalLM: 'granitemoehybrid' },
  defaults: { num_local_experts: 8 },
  fromConfig(config) {
    if (config.number('num_local_experts') > 0)
      throw config.fault('num_local_experts', '0 (mixture-of-experts models are not supported)');
    const plain = plainConfig(config);
    // A config without types has recurrent layers alone.
    if (config.list('layer_types') === null) throw config.fault('layer_types', 'a list of attention layers');
    slidingLayers(config, plain.architecture.layers, () => false);
    const rotary = config.get('position_embedding_type') === 'rope' ? 0 : null;
    const pattern = [{ rotary, window: null }];
    return multiplied(changed(plain, { ffn: config.number('shared_intermediate_size'), pattern }), config);
  },
  tensors: ({ ffn }: Architecture): Differences => ({
    gate: { stored: 'shared_mlp.input_linear.weight', rows: { start: 0, count: ffn, of: 2 * ffn } },
    up: { stored: 'shared_mlp.input_linear.weight', rows: { start: ffn, count: ffn, of: 2 * ffn } },
    down: { stored: 'shared_mlp.output_linear.weight' },
  }),
};

function multiplied(plain: Description, config: Fields): Description {
  return {
    ...changed(plain, {
      embeddingScale: config.number('embedding_multiplier', 1),
      attentionScale: config.number('attention_multiplier', 1),
    }),
    residualScale: config.number('residual_multiplier', 1),
    logitScale: 1 / config.number('logits_scaling', 1),
  };
}
