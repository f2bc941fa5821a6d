/** Llama, also with the exits of Balcony; its GGUF files may hold a Mistral. */
import type { Family } from './description.js';
import { windowOf } from './description.js';
import { changed, plainConfig, plainMetadata } from './plain.js';

export const llama: Family = {
  classes: { LlamaForCausalLM: 'llama', NestedLlamaForCausalLM: 'nested_llama' },
  gguf: ['llama'],
  fromConfig: (config) => plainConfig(config),
  fromMetadata(metadata) {
    const plain = plainMetadata(metadata);
    const window = windowOf(metadata.fields.optional('attention.sliding_window'), plain.architecture.context);
    return changed(plain, { pattern: [{ rotary: 0, window }] });
  },
  alternates: true,
};
