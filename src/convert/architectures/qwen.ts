/** Qwen2, Qwen2.5 and Qwen3, dense, also with the prompt exit of SwiftKV. */
import type { Description, Family } from './description.js';
import type { Fields } from './fields.js';
import { slidingLayers, windowed } from './layer-types.js';
import { changed, plainConfig, plainMetadata } from './plain.js';

/** First layer with a window, and the window, of a config that states neither. */
const MAX_WINDOW_LAYERS = 28;
const WINDOW = 4096;

/** Biases of queries, keys and values, and none of the output. */
export const qwen2: Family = {
  classes: { Qwen2ForCausalLM: 'qwen2', Qwen2SwiftKVForCausalLM: 'qwen2_swiftkv' },
  gguf: ['qwen2'],
  fromConfig: (config) => withDeepWindows(changed(plainConfig(config), { qkvBias: true, outputBias: false }), config),
};

/** Norms of each head of queries and keys. */
export const qwen3: Family = {
  classes: { Qwen3ForCausalLM: 'qwen3', Qwen3SwiftKVForCausalLM: 'qwen3_swiftkv' },
  defaults: { head_dim: 128 },
  gguf: ['qwen3'],
  fromConfig: (config) => withDeepWindows(changed(plainConfig(config), { qkNorm: 'head' }), config),
  fromMetadata: (metadata) => changed(plainMetadata(metadata), { qkNorm: 'head' }),
};

/** Adds the windows of the layers from `max_window_layers` on. */
export function withDeepWindows(description: Description, config: Fields): Description {
  const first = config.number('max_window_layers', MAX_WINDOW_LAYERS);
  const window = config.flag('use_sliding_window') ? config.number('sliding_window', WINDOW) : null;
  const { layers } = description.architecture;
  const sliding = slidingLayers(config, layers, (index) => window !== null && index >= first);
  return windowed(description, window, sliding);
}
