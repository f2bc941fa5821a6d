/**
 * A decoder layer with smoothed inputs: the same function in other weights, for all kernels of a folder. The weights
 * that read an input absorb the multiplication. The weights that produce it absorb the division: a norm for q, k, v,
 * gate and up; v for o; up for down.
 */
import type { Architecture } from '../../engine/model/architecture.js';
import type { StageLayer } from '../graphs/layer.js';
import { LAYER, type Part, type SourceTensor, type Tensors } from '../tensors.js';
import { columnMaxima, scaledColumns, scaledRows } from '../weight.js';
import { type InputName, type LayerFactors, smoothingFactors } from './factors.js';

/** Returns the layer with smoothed tensors, and with the statistics of its smoothed inputs. */
export function smoothedLayer(layer: StageLayer, arch: Architecture): StageLayer {
  const factors = factorsOf(layer, arch);
  return { ...layer, source: smoothedSource(layer, factors), calibration: layer.calibration.smoothed(factors) };
}

/** The factors of a layer's inputs; null for an input without statistics. */
function factorsOf({ source, prefix, calibration }: StageLayer, arch: Architecture): LayerFactors {
  const factors = (squares: Float32Array | null, fold: (maxima: Float32Array) => Float32Array, ...readers: Part[]) =>
    squares &&
    smoothingFactors(squares, fold(columnMaxima(readers.map((part) => source.tensor(prefix + LAYER[part])))));
  const { hidden, heads, headDim, ffn } = arch;
  const asIs = (values: Float32Array): Float32Array => values;
  const attentionOut = calibration.squares('attn_out', heads * headDim);
  const values = factors(
    attentionOut && perValue(attentionOut, arch, (a, b) => a + b),
    (maxima) => perValue(maxima, arch, Math.max),
    'o',
  );
  // Without a norm in front, no weight produces the inputs of a layer's halves.
  const hasNorm = arch.norms !== 'post';
  const normed = (input: InputName) => (hasNorm ? calibration.squares(input, hidden) : null);
  return {
    attn_in: factors(normed('attn_in'), asIs, 'q', 'k', 'v'),
    attn_out: values && perHead(values, arch),
    values,
    mlp_in: factors(normed('mlp_in'), asIs, 'gate', 'up'),
    mlp_out: factors(calibration.squares('mlp_out', ffn), asIs, 'down'),
  };
}

/** The layer's tensors, multiplied and divided by the factors. */
function smoothedSource({ source, prefix }: StageLayer, factors: LayerFactors): Pick<Tensors, 'tensor'> {
  const { attn_in, attn_out, values, mlp_in, mlp_out } = factors;
  const divisor = (factors: Float32Array | null) => factors?.map((factor) => 1 / factor) ?? null;
  const columns = (factors: Float32Array | null) => (tensor: SourceTensor) => scaledColumns(tensor, factors);
  const rows = (factors: Float32Array | null) => (tensor: SourceTensor) => scaledRows(tensor, divisor(factors));
  const folded = new Map<string, (tensor: SourceTensor) => SourceTensor>([
    [LAYER.attnNorm, columns(divisor(attn_in))],
    [LAYER.q, columns(attn_in)],
    [LAYER.k, columns(attn_in)],
    [LAYER.v, (tensor) => rows(values)(columns(attn_in)(tensor))],
    [LAYER.vBias, columns(divisor(values))],
    [LAYER.o, columns(attn_out)],
    [LAYER.mlpNorm, columns(divisor(mlp_in))],
    [LAYER.gate, columns(mlp_in)],
    [LAYER.up, (tensor) => rows(mlp_out)(columns(mlp_in)(tensor))],
    [LAYER.down, columns(mlp_out)],
  ]);
  return {
    tensor(name) {
      const tensor = source.tensor(name);
      const fold = name.startsWith(prefix) ? folded.get(name.slice(prefix.length)) : undefined;
      return fold?.(tensor) ?? tensor;
    },
  };
}

/**
 * Combines channels [heads * head_dim] into one number for each channel of the values [kv_heads * head_dim]. Several
 * query heads read the same KV head.
 */
function perValue(
  channels: Float32Array,
  { heads, kvHeads, headDim }: Architecture,
  combine: (a: number, b: number) => number,
): Float32Array {
  const group = heads / kvHeads;
  const out = new Float32Array(kvHeads * headDim);
  channels.forEach((value, i) => {
    const at = Math.floor(i / headDim / group) * headDim + (i % headDim);
    out[at] = combine(out[at] ?? 0, value);
  });
  return out;
}

/** The inverse of perValue: each query head takes the factors of its KV head. */
function perHead(values: Float32Array, { heads, kvHeads, headDim }: Architecture): Float32Array {
  const group = heads / kvHeads;
  return Float32Array.from(
    { length: heads * headDim },
    (_, i) => values[Math.floor(i / headDim / group) * headDim + (i % headDim)] ?? 1,
  );
}

/**
 * A head with a smoothed input: factors multiply the columns of its weight.
 * @param weight [vocab, hidden]
 * @param squares sums over tokens of the squares of the input's channels; null if they were not measured
 * @returns the weight, and the multiplier of the input and of the rows of an embedding that shares it; null for none
 */
export function smoothedHead(
  weight: SourceTensor,
  squares: Float32Array | null,
): { readonly weight: SourceTensor; readonly undo: Float32Array | null } {
  const factors = squares && smoothingFactors(squares, columnMaxima([weight]));
  return { weight: scaledColumns(weight, factors), undo: factors?.map((factor) => 1 / factor) ?? null };
}
