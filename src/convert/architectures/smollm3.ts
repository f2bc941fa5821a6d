/** SmolLM3: some layers do not rotate. */
import type { Family } from './description.js';
import { patternOf, windowOf } from './description.js';
import { slidingLayers } from './layer-types.js';
import { changed, plainConfig, plainMetadata } from './plain.js';

/** Every fourth layer has no positions. llama.cpp assumes it for every file. */
const INTERVAL = 4;

const isRotated = (index: number, interval: number): boolean => (index + 1) % interval !== 0;

export const smollm3: Family = {
  classes: { SmolLM3ForCausalLM: 'smollm3' },
  gguf: ['smollm3'],
  fromConfig(config) {
    const plain = plainConfig(config, { theta: 2e6 });
    const { layers, context } = plain.architecture;
    const interval = config.number('no_rope_layer_interval', INTERVAL);
    const listed = config.numbers('no_rope_layers');
    // 1 is a layer with positions, in spite of the field's name.
    const rotated = Array.from({ length: layers }, (_, i) => (listed ? listed[i] === 1 : isRotated(i, interval)));
    const window = config.flag('use_sliding_window') ? config.optional('sliding_window') : null;
    const sliding = slidingLayers(config, layers, (index) => window !== null && rotated[index] === false);
    const width = windowOf(window, context);
    const kinds = rotated.map((rotates, i) => ({ rotary: rotates ? 0 : null, window: sliding[i] ? width : null }));
    return changed(plain, { pattern: patternOf(kinds) });
  },
  fromMetadata(metadata) {
    const plain = plainMetadata(metadata, { theta: 2e6 });
    const kinds = Array.from({ length: plain.architecture.layers }, (_, i) => ({
      rotary: isRotated(i, INTERVAL) ? 0 : null,
      window: null,
    }));
    return changed(plain, { pattern: patternOf(kinds) });
  },
  alternates: true,
};
