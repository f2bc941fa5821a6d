/** The windows of layers, from `layer_types` and `sliding_window`. */
import type { Description } from './description.js';
import { patternOf, windowOf } from './description.js';
import type { Fields } from './fields.js';
import { changed } from './plain.js';

const FULL = ['full_attention', 'attention'];

/**
 * Whether each layer attends to a window only.
 * @param fallback for a config without `layer_types`, by index of the layer
 * @throws ConvertError for a layer of another type, such as a recurrent one
 */
export function slidingLayers(config: Fields, layers: number, fallback: (index: number) => boolean): boolean[] {
  const types = config.list('layer_types');
  if (types === null) return Array.from({ length: layers }, (_, i) => fallback(i));
  if (types.length < layers) throw config.fault('layer_types', `a list of ${layers} types`);
  return types.slice(0, layers).map((type) => {
    if (type === 'sliding_attention') return true;
    if (typeof type === 'string' && FULL.includes(type)) return false;
    throw config.fault('layer_types', 'full_attention or sliding_attention for each layer');
  });
}

/**
 * Gives layers with one rotary table a window.
 * @param positions of the window; null for none
 * @param sliding whether each layer has the window; absent: all have it
 */
export function windowed(
  description: Description,
  positions: number | null,
  sliding: readonly boolean[] = [true],
): Description {
  const window = windowOf(positions, description.architecture.context);
  return changed(description, {
    pattern: patternOf(sliding.map((slides) => ({ rotary: 0, window: slides ? window : null }))),
  });
}
