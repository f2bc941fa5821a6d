/** The windows of layers, from `layer_types` and `sliding_window`. */
import type { LayerKind } from '../../model/architecture.js';
import { windowOf } from './description.js';
import type { Fields } from './fields.js';

const FULL = ['full_attention', 'attention'];

/**
 * Whether each layer attends to a window only.
 * @param fallback for a config without `layer_types`, by index of the layer
 * @throws ConvertError for a layer of another type, such as a recurrent one
 */
export function slidingLayers(config: Fields, layers: number, fallback: (index: number) => boolean): boolean[] {
  const types = config.list('layer_types');
  if (types === null) return Array.from({ length: layers }, (_, i) => fallback(i));
  if (types.length < layers) throw config.fault('bad_source', 'layer_types', `a list of ${layers} types`);
  return types.slice(0, layers).map((type) => {
    if (type === 'sliding_attention') return true;
    if (typeof type === 'string' && FULL.includes(type)) return false;
    throw config.fault('unsupported_feature', 'layer_types', 'full_attention or sliding_attention for each layer');
  });
}

/** The kinds of layers with one rotary table, of which some attend to a window. */
export function slidingKinds(sliding: readonly boolean[], positions: number | null, context: number): LayerKind[] {
  const window = windowOf(positions, context);
  return sliding.map((slides) => ({ rotary: 0, window: slides ? window : null }));
}
