/** OLMo 2: norms of outputs in place of inputs, norms of all heads of queries and keys together. */
import type { Description, Family } from './description.js';
import { changed, plainConfig, plainMetadata } from './plain.js';

const differs = (plain: Description): Description => changed(plain, { norms: 'post', qkNorm: 'all' });

export const olmo2: Family = {
  classes: { Olmo2ForCausalLM: 'olmo2' },
  gguf: ['olmo2'],
  fromConfig: (config) => differs(plainConfig(config)),
  fromMetadata(metadata) {
    const { fields } = metadata;
    // OLMo 3 has the same name there, and windows.
    if (fields.optional('attention.sliding_window') !== null)
      throw fields.fault('attention.sliding_window', 'absent (OLMo 3 is not supported)');
    return differs(plainMetadata(metadata));
  },
  tensors: () => ({
    attnOutNorm: { stored: 'post_attention_layernorm.weight' },
    mlpOutNorm: { stored: 'post_feedforward_layernorm.weight' },
  }),
};
