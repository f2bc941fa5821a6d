/**
 * Smooths the channels of an input before its rows are rounded to bytes (SmoothQuant, arXiv 2211.10438): the same
 * function in other weights, for all kernels of a folder. The input is divided by factors, and the columns of the
 * weights that read it are multiplied. The weights that produce it absorb the division: a norm for q, k, v, gate and
 * up; v for o; up for down.
 */
import type { Architecture } from '../engine/model/architecture.js';
import type { InputName, LayerFactors } from './calibration.js';
import type { StageLayer } from './graphs/layer.js';
import { LAYER, type Part, type SourceTensor, type Tensors } from './source.js';
import { columnMaxima, scaledColumns, scaledRows } from './weight.js';

/**
 * Share of a channel's size that moves to the weights, 0 to 1. Mean loss in nats over the exits of the embedded model:
 * .023 at .5, .025 at .4, .023 at .6, .030 at .75.
 */
const EXPONENT = 0.5;

/**
 * Smoothing applies from this imbalance on (see `imbalance`). Below it, the step of a row's bytes is already small
 * against most channels: on the embedded model, smoothing the remaining inputs gained nothing, mean over the exits.
 */
const IMBALANCE = 4;

/** Largest root mean square of a channel over that of all channels; 1 if all channels are alike. */
export function imbalance(squares: Float32Array): number {
  let sum = 0;
  let most = 0;
  for (const value of squares) {
    sum += value;
    most = Math.max(most, value);
  }
  return sum > 0 ? Math.sqrt((most * squares.length) / sum) : 1;
}

/**
 * Factors by channel: rms^a / max^(1 - a), over the geometric mean of all. `max` is the largest magnitude of the
 * weights' column. Null for an input that is balanced enough. Powers of two would keep every bit of float kernels, but
 * they are coarse: .002 nats more on the embedded model.
 * @param squares means or sums of the squares of the input's channels
 * @param columnMaxima largest magnitude of each column of the weights that read the input
 */
export function smoothingFactors(squares: Float32Array, columnMaxima: Float32Array): Float32Array | null {
  if (imbalance(squares) < IMBALANCE) return null;
  const logs = Float64Array.from(squares, (square, i) => {
    const column = columnMaxima[i] ?? 0;
    // A channel that is always zero, or that no weight reads, needs no factor.
    return square > 0 && column > 0 ? (EXPONENT / 2) * Math.log2(square) - (1 - EXPONENT) * Math.log2(column) : NaN;
  });
  const known = logs.filter((value) => !Number.isNaN(value));
  const mean = known.reduce((a, b) => a + b, 0) / known.length;
  return Float32Array.from(logs, (value) => (Number.isNaN(value) ? 1 : 2 ** (value - mean)));
}

/** Returns the layer with smoothed tensors, and with the statistics of its smoothed inputs. */
export function smoothedLayer(layer: StageLayer): StageLayer {
  const factors = factorsOf(layer);
  return { ...layer, source: smoothedSource(layer, factors), calibration: layer.calibration.smoothed(factors) };
}

/** The factors of a layer's inputs; null for an input without statistics. */
function factorsOf({ source, prefix, calibration, arch }: StageLayer): LayerFactors {
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
