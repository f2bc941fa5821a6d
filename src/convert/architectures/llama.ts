/** Llama, also with the exits of Balcony or the prompt exit of SwiftKV; its GGUF files may hold a Mistral. */
import type { Family } from './description.js';
import { windowed } from './layer-types.js';
import { plainConfig, plainMetadata } from './plain.js';

export const llama: Family = {
  classes: {
    LlamaForCausalLM: 'llama',
    NestedLlamaForCausalLM: 'nested_llama',
    LlamaSwiftKVForCausalLM: 'llama_swiftkv',
  },
  gguf: ['llama'],
  fromConfig: (config) => plainConfig(config),
  fromMetadata: (metadata) => windowed(plainMetadata(metadata), metadata.fields.optional('attention.sliding_window')),
  alternates: true,
};
