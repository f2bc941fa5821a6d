/** Checks before a conversion writes anything: sizes, and that each tensor of the architecture has its shape. */
import { type Architecture, kindOf, leaderOf, ofLayer } from '../engine/model/architecture.js';
import { ConvertError } from './conversion-error.js';
import { EMBEDDING, FINAL_NORM, HEAD, LAYER, PER_LAYER, trunkLayer } from './source.js';
import type { ModelSource, Part, Tensors } from './source.js';

/** Longest context: the graphs hold tables of all positions, 64 bytes and more each. */
const MAX_CONTEXT = 2 ** 21;

/** Checks the sizes that the graphs rely on. */
export function checkArchitecture(arch: Architecture): void {
  const rule = (ok: boolean, text: string): void => {
    if (!ok) throw new ConvertError(text);
  };
  for (const key of ['layers', 'hidden', 'heads', 'kvHeads', 'headDim', 'ffn', 'vocab', 'context'] as const)
    rule(Number.isInteger(arch[key]) && arch[key] > 0, `${key} must be a positive integer, got ${arch[key]}`);
  rule(arch.context <= MAX_CONTEXT, `context must be at most ${MAX_CONTEXT}, got ${arch.context}`);
  // Other values make every answer NaN, and JSON has no NaN for the manifest.
  const positive = (fields: object): void => {
    for (const [key, value] of Object.entries(fields))
      if (typeof value === 'number') rule(value > 0 && value < Infinity, `${key} must be above 0, got ${value}`);
  };
  const whole = (key: string, value: number): void => {
    rule(Number.isInteger(value), `${key} must be an integer, got ${value}`);
  };
  const { normEps, attentionScale, softcap, logitSoftcap, embeddingScale, queryGrowth } = arch;
  positive({ normEps, attentionScale, softcap, logitSoftcap, embeddingScale, ...queryGrowth });
  if (queryGrowth !== null) whole('originalContext', queryGrowth.originalContext);
  for (const [table, { theta, width, scaling }] of arch.rotary.entries()) {
    const headDim = arch.pattern.find(({ rotary }) => rotary === table)?.headDim ?? arch.headDim;
    rule(
      width > 0 && width % 2 === 0 && width <= headDim,
      `rotary width must be an even number up to the head size (${headDim}), got ${width}`,
    );
    positive({ ropeTheta: theta, ...scaling });
    if (scaling !== null && 'originalContext' in scaling) whole('originalContext', scaling.originalContext);
    if (scaling?.type !== 'longrope') continue;
    for (const { length } of [scaling.shortFactors, scaling.longFactors])
      rule(length === width / 2, `rotary factors must be ${width / 2}, one for each pair, got ${length}`);
    positive(Object.fromEntries([...scaling.shortFactors, ...scaling.longFactors].entries()));
  }
  for (const { window, headDim = arch.headDim, kvHeads = arch.kvHeads } of arch.pattern) {
    rule(
      window === null || (Number.isInteger(window) && window > 0),
      `windows must be positive integers, got ${window}`,
    );
    rule(arch.heads % kvHeads === 0, `heads (${arch.heads}) must be a multiple of KV heads (${kvHeads})`);
    // GroupQueryAttention's rotary kernels step in multiples of 8 pairs.
    rule(headDim % 16 === 0, `head size must be a multiple of 16, got ${headDim}`);
  }
  const { sharing, layers } = arch;
  for (let layer = sharing?.first ?? layers; layer < layers; layer++)
    rule(leaderOf(arch, layer) >= 0, `layer ${layer} must have a layer of its kind in front of the sharing ones`);
}

/**
 * Returns the shape of each tensor of a layer.
 * @param place of the layer in its exit's stack; absent: one with all parts, in the sizes of the architecture
 */
export function layerShapes(whole: Architecture, place?: number): ReadonlyMap<Part, number[]> {
  const arch = place === undefined ? whole : ofLayer(whole, place);
  const hasKeys = place === undefined || place < (whole.sharing?.first ?? Infinity);
  const hasValues = hasKeys && (place === undefined || !kindOf(whole, place).keysAsValues);
  const { hidden, ffn, headDim, norms, qkNorm } = arch;
  const q = arch.heads * headDim;
  const kv = arch.kvHeads * headDim;
  const shapes = new Map<Part, number[]>();
  if (norms !== 'post') shapes.set('attnNorm', [hidden]);
  shapes.set('q', [q, hidden]).set('o', [hidden, q]);
  if (hasKeys) shapes.set('k', [kv, hidden]);
  if (hasValues) shapes.set('v', [kv, hidden]);
  if (norms !== 'post') shapes.set('mlpNorm', [hidden]);
  shapes.set('gate', [ffn, hidden]).set('up', [ffn, hidden]).set('down', [hidden, ffn]);
  if (arch.qkvBias) shapes.set('qBias', [q]).set('kBias', [kv]).set('vBias', [kv]);
  if (arch.outputBias) shapes.set('oBias', [hidden]);
  if (qkNorm !== 'none') shapes.set('qNorm', [qkNorm === 'head' ? headDim : q]);
  if (qkNorm !== 'none' && hasKeys) shapes.set('kNorm', [qkNorm === 'head' ? headDim : kv]);
  if (norms !== 'pre') shapes.set('attnOutNorm', [hidden]).set('mlpOutNorm', [hidden]);
  const { perLayer, layerScale } = arch;
  if (perLayer !== undefined)
    shapes.set('perLayerGate', [perLayer, hidden]).set('perLayerUp', [hidden, perLayer]).set('perLayerNorm', [hidden]);
  if (layerScale) shapes.set('layerScale', [1]);
  return shapes;
}

/**
 * Throws ConvertError if the source lacks the tensor or gives it another shape.
 * @param file named in the error; leave it out for the model itself
 */
export function checkTensor(
  source: Pick<Tensors, 'tensor'>,
  name: string,
  shape: readonly number[],
  file?: string,
): void {
  const { name: stored, shape: found } = source.tensor(name);
  if (found.length === shape.length && found.every((size, i) => size === shape[i])) return;
  const place = file === undefined ? '' : `${file}: `;
  throw new ConvertError(`${place}tensor ${stored} must have shape [${shape.join(', ')}], got [${found.join(', ')}]`);
}

/**
 * Checks that a source has tensors of these shapes, and no others: the served model would differ from the source.
 * @param shapes by name; null for a tensor that may be absent
 */
export function checkShapes(
  source: Tensors,
  shapes: Iterable<readonly [name: string, shape: readonly number[] | null]>,
  file?: string,
): void {
  const known = new Set<string>();
  for (const [name, shape] of shapes) {
    if (shape !== null) checkTensor(source, name, shape, file);
    known.add(name);
  }
  const other = source.names.find((name) => !known.has(name));
  if (other === undefined) return;
  const rule = 'tensors must be those of the architecture (biases only of attention, in every layer)';
  throw new ConvertError(`${rule}, got ${other}`);
}

/**
 * Checks that the trunk, the embedding, the final norm and the head are complete, and that nothing else is there.
 * @param isReplaced whether a layer's part may be absent
 */
export function checkTensors(source: ModelSource, isReplaced: (layer: number, part: Part) => boolean): void {
  const arch = source.architecture;
  function* shapes(): Iterable<readonly [string, number[] | null]> {
    yield [EMBEDDING, [arch.vocab, arch.hidden]];
    yield [FINAL_NORM, [arch.hidden]];
    // The file of a model with a tied head may hold the head as well.
    yield [HEAD, arch.tiedHead ? null : [arch.vocab, arch.hidden]];
    for (let i = 0; i < arch.layers; i++)
      for (const [part, shape] of layerShapes(arch, i))
        yield [trunkLayer(i) + LAYER[part], isReplaced(i, part) ? null : shape];
    // A checkpoint may hold the unused keys and values of layers that share them.
    for (let i = arch.sharing?.first ?? arch.layers; i < arch.layers; i++)
      for (const part of ['k', 'v', 'kNorm'] as const) yield [trunkLayer(i) + LAYER[part], null];
    const { perLayer, layers, vocab, hidden } = arch;
    if (perLayer === undefined) return;
    yield [PER_LAYER.table, [vocab, layers * perLayer]];
    yield [PER_LAYER.projection, [layers * perLayer, hidden]];
    yield [PER_LAYER.norm, [perLayer]];
  }
  checkShapes(source, shapes());
}
