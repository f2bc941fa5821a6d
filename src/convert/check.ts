/** Checks before a conversion writes anything: sizes, and that each tensor of the architecture has its shape. */
import type { Architecture } from '../engine/model/architecture.js';
import { ConvertError } from './conversion-error.js';
import { EMBEDDING, FINAL_NORM, HEAD, LAYER, trunkLayer } from './source.js';
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
  rule(arch.heads % arch.kvHeads === 0, `heads (${arch.heads}) must be a multiple of KV heads (${arch.kvHeads})`);
  // GroupQueryAttention's rotary kernels step in multiples of 8 pairs.
  rule(arch.headDim % 16 === 0, `head size must be a multiple of 16, got ${arch.headDim}`);
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
  for (const { theta, width, scaling } of arch.rotary) {
    rule(
      width > 0 && width % 2 === 0 && width <= arch.headDim,
      `rotary width must be an even number up to the head size (${arch.headDim}), got ${width}`,
    );
    positive({ ropeTheta: theta, ...scaling });
    if (scaling !== null && 'originalContext' in scaling) whole('originalContext', scaling.originalContext);
    if (scaling?.type !== 'longrope') continue;
    for (const { length } of [scaling.shortFactors, scaling.longFactors])
      rule(length === width / 2, `rotary factors must be ${width / 2}, one for each pair, got ${length}`);
    positive(Object.fromEntries([...scaling.shortFactors, ...scaling.longFactors].entries()));
  }
  for (const { window } of arch.pattern)
    rule(
      window === null || (Number.isInteger(window) && window > 0),
      `windows must be positive integers, got ${window}`,
    );
}

/** Returns the shape of each tensor of a layer. */
export function layerShapes(arch: Architecture): ReadonlyMap<Part, number[]> {
  const { hidden, ffn, headDim, norms, qkNorm } = arch;
  const q = arch.heads * headDim;
  const kv = arch.kvHeads * headDim;
  const shapes = new Map<Part, number[]>();
  if (norms !== 'post') shapes.set('attnNorm', [hidden]);
  shapes.set('q', [q, hidden]).set('k', [kv, hidden]).set('v', [kv, hidden]).set('o', [hidden, q]);
  if (norms !== 'post') shapes.set('mlpNorm', [hidden]);
  shapes.set('gate', [ffn, hidden]).set('up', [ffn, hidden]).set('down', [hidden, ffn]);
  if (arch.qkvBias) shapes.set('qBias', [q]).set('kBias', [kv]).set('vBias', [kv]);
  if (arch.outputBias) shapes.set('oBias', [hidden]);
  if (qkNorm !== 'none') shapes.set('qNorm', [qkNorm === 'head' ? headDim : q]);
  if (qkNorm !== 'none') shapes.set('kNorm', [qkNorm === 'head' ? headDim : kv]);
  if (norms !== 'pre') shapes.set('attnOutNorm', [hidden]).set('mlpOutNorm', [hidden]);
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
      for (const [part, shape] of layerShapes(arch))
        yield [trunkLayer(i) + LAYER[part], isReplaced(i, part) ? null : shape];
  }
  checkShapes(source, shapes());
}
