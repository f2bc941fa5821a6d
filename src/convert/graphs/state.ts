/**
 * The parts of a state at a boundary (`stateWidth`): the residual stream, shared keys and values without rotation, the
 * inputs of the layers behind it, and zeros.
 */
import { type Architecture, ofLayer, sharedLayers, stateWidth } from '../../engine/model/architecture.js';
import type { Graph } from '../../engine/model/onnx-graph.js';
import type { LayerBuilder } from './layer.js';
import type { FloatType } from './linear.js';

/** Names of the parts in a graph. */
export interface State {
  readonly hidden: string;
  /** Inputs of layers by their place. */
  readonly perLayer: ReadonlyMap<number, string>;
  /** Keys and values by the layer that makes them. Behind that layer others share them. */
  readonly shared: Map<number, readonly [k: string, v: string]>;
}

/** Splits the states in front of a layer. */
export function openState(graph: Graph, arch: Architecture, place: number, states: string): State {
  const shared = new Map<number, readonly [k: string, v: string]>();
  const perLayer = new Map<number, string>();
  const width = stateWidth(arch);
  if (width === arch.hidden) return { hidden: states, perLayer, shared };
  const parts: [name: string, width: number][] = [['stream.in', arch.hidden]];
  for (const [layer, size] of sharedBefore(arch, place)) {
    shared.set(layer, [`shared.${layer}.k`, `shared.${layer}.v`]);
    parts.push([`shared.${layer}.k`, size], [`shared.${layer}.v`, size]);
  }
  const { perLayer: own = 0, layers } = arch;
  for (let layer = place; own > 0 && layer < layers; layer++) {
    perLayer.set(layer, `per_layer.${layer}`);
    parts.push([`per_layer.${layer}`, own]);
  }
  const rest = width - parts.reduce((sum, [, size]) => sum + size, 0);
  if (rest > 0) parts.push(['state.rest', rest]);
  const sizes = graph.ints('state.sizes', ...parts.map(([, size]) => size));
  graph.node(
    'Split',
    [states, sizes],
    parts.map(([name]) => name),
    { axis: -1 },
  );
  return { hidden: 'stream.in', perLayer, shared };
}

/** Joins the states behind a stage's last layer, whose stream is `stream`. */
export function closeState(build: LayerBuilder, state: State, out: string): void {
  const { graph, arch, layer, options } = build;
  const place = layer.place + 1;
  const shared = place < arch.layers ? sharedBefore(arch, place) : [];
  const perLayer = [...state.perLayer].filter(([layer]) => layer >= place).map(([, name]) => name);
  const parts = ['stream', ...shared.flatMap(([layer]) => state.shared.get(layer) ?? []), ...perLayer];
  const width = shared.reduce((sum, [, size]) => sum + 2 * size, arch.hidden) + perLayer.length * (arch.perLayer ?? 0);
  padded(graph, parts, options.floatType, stateWidth(arch) - width, out);
}

/** Joins parts, and fills them up with zeros. */
export function padded(graph: Graph, parts: string[], type: FloatType, zeros: number, out: string): void {
  const joined =
    parts.length === 1
      ? (parts[0] ?? '')
      : graph.node('Concat', parts, [zeros > 0 ? `${out}.parts` : out], { axis: -1 });
  if (zeros === 0) return;
  const none = graph.constant('state.none', type, [], type === 'f32' ? Float32Array.of(0) : Uint16Array.of(0));
  graph.node('Pad', [joined, graph.ints('state.pads', 0, zeros), none, graph.ints('state.axis', -1)], [out]);
}

/** The layers in front of `place` whose keys and values others share, with the width of the keys. */
function sharedBefore(arch: Architecture, place: number): [layer: number, width: number][] {
  if (place === 0) return [];
  return sharedLayers(arch).map((layer) => {
    const { kvHeads, headDim } = ofLayer(arch, layer);
    return [layer, kvHeads * headDim];
  });
}
