/**
 * Models in float64, written from their formulas: the reference of looped models and of models with a prompt exit.
 *
 * h = embedding; loop t: each layer adds norm2(attention(norm1(h))) and norm4(mlp(norm3(h))), then h = norm(h). The logits of
 * loop t are W h. Keys and values of a layer differ from loop to loop. A model with norms of inputs alone has no norm2 and
 * norm4.
 *
 * Behind a prompt exit, a layer has keys and values of norm_swiftkv(h), h the states at the exit, by the projections of the
 * first layer of its group. Its queries come from its own normed input by q_proj_swiftkv. All positions do so, of prompt and
 * answer.
 */
import type { Weights } from './tiny.js';

interface Shape {
  readonly layers: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly theta: number;
  readonly eps: number;
}

export interface LoopShape extends Shape {
  readonly loops: number;
  /** Whether the norm ends every loop, or stands in front of the head alone. */
  readonly betweenLoops: boolean;
}

export interface PromptShape extends Shape {
  readonly exit: number;
  readonly group: number;
}

type Row = Float64Array;

/** Logits of all positions of a model with a prompt exit. */
export function promptLogits(weights: Weights, shape: PromptShape, ids: readonly number[]): Row[] {
  return logitsOf(weights, { ...shape, loops: 1, betweenLoops: false }, ids)[0] ?? [];
}

/** Logits by loop and position, of all positions of a prompt. */
export function loopLogits(weights: Weights, shape: LoopShape, ids: readonly number[]): Row[][] {
  return logitsOf(weights, { ...shape, exit: Infinity, group: 1 }, ids);
}

function logitsOf(weights: Weights, shape: LoopShape & PromptShape, ids: readonly number[]): Row[][] {
  const norm = (x: Row, name: string): Row => normed(x, vector(weights, name), shape.eps);
  const optional = (x: Row, name: string): Row => (weights.has(name) ? norm(x, name) : x);
  const times = (name: string, x: Row): Row => product(vector(weights, name), x);
  const table = vector(weights, 'model.embed_tokens.weight');
  const head = weights.has('lm_head.weight') ? 'lm_head.weight' : 'model.embed_tokens.weight';
  const width = vector(weights, 'model.norm.weight').length;
  let states: Row[] = ids.map((id) => Float64Array.from(table.subarray(id * width, (id + 1) * width)));
  let shared: Row[] = [];
  const logits: Row[][] = [];
  for (let loop = 0; loop < shape.loops; loop++) {
    for (let layer = 0; layer < shape.layers; layer++) {
      const at = (part: string): string => `model.layers.${layer}.${part}.weight`;
      if (layer === shape.exit) shared = states.map((x) => norm(x, 'model.norm_swiftkv.weight'));
      const inputs = states.map((x) => norm(x, at('input_layernorm')));
      const attended = attention(projections(weights, shape, layer, inputs, shared), shape);
      const added = attended.map((x) => optional(times(at('self_attn.o_proj'), x), at('input_layernorm_2')));
      const middle = states.map((x, i) => sum(x, added[i] ?? x));
      states = middle.map((x) => {
        const out = mlp((part, row) => times(at(`mlp.${part}_proj`), row), norm(x, at('post_attention_layernorm')));
        return sum(x, optional(out, at('post_attention_layernorm_2')));
      });
    }
    const ends = states.map((x) => norm(x, 'model.norm.weight'));
    logits.push(ends.map((x) => times(head, x)));
    if (shape.betweenLoops) states = ends;
  }
  return logits;
}

/** Queries, keys and values of a layer. @param shared the normed states at the prompt exit */
function projections(
  weights: Weights,
  { exit, group, headDim, eps }: PromptShape,
  layer: number,
  inputs: readonly Row[],
  shared: readonly Row[],
): [q: Row[], k: Row[], v: Row[]] {
  const isDeep = layer >= exit;
  const leader = isDeep ? layer - ((layer - exit) % group) : layer;
  /** A projection with its bias and the norm of each head, as far as the model has them. */
  const projected = (layer: number, part: string, x: Row): Row => {
    const name = (kind: string): string => `model.layers.${layer}.self_attn.${part}_${kind}${isDeep ? '_swiftkv' : ''}`;
    const plain = product(vector(weights, `${name('proj')}.weight`), x);
    const out = weights.has(`${name('proj')}.bias`) ? sum(plain, vector(weights, `${name('proj')}.bias`)) : plain;
    if (!weights.has(`${name('norm')}.weight`)) return out;
    const scale = vector(weights, `${name('norm')}.weight`);
    for (let at = 0; at < out.length; at += headDim) out.set(normed(out.slice(at, at + headDim), scale, eps), at);
    return out;
  };
  const [keys, values] = ['k', 'v'].map((part) => (isDeep ? shared : inputs).map((x) => projected(leader, part, x)));
  return [inputs.map((x) => projected(layer, 'q', x)), keys ?? [], values ?? []];
}

function vector(weights: Weights, name: string): Float32Array {
  const weight = weights.get(name);
  if (weight === undefined) throw new Error(`no weight ${name}`);
  return weight.data;
}

function product(matrix: Float32Array, x: Row): Row {
  return Float64Array.from({ length: matrix.length / x.length }, (_, row) =>
    x.reduce((total, value, i) => total + value * (matrix[row * x.length + i] ?? NaN), 0),
  );
}

/** A gated MLP. @param times the product of one of its matrices with a row */
function mlp(times: (part: string, x: Row) => Row, x: Row): Row {
  const up = times('up', x);
  const gated = times('gate', x).map((value, i) => (value / (1 + Math.exp(-value))) * (up[i] ?? NaN));
  return times('down', gated);
}

function sum(a: Row, b: Row | Float32Array): Row {
  return a.map((value, i) => value + (b[i] ?? NaN));
}

function normed(x: Row, scale: Float32Array, eps: number): Row {
  const root = Math.sqrt(x.reduce((total, value) => total + value * value, 0) / x.length + eps);
  return x.map((value, i) => (value / root) * (scale[i] ?? NaN));
}

/** Causal attention with rotary positions; channel i of a head turns with channel i + D/2. */
function attention([q, k, v]: [Row[], Row[], Row[]], { heads, kvHeads, headDim, theta }: Shape): Row[] {
  const turned = (rows: Row[], count: number): Row[] => rows.map((row, at) => rotated(row, at, count, headDim, theta));
  const queries = turned(q, heads);
  const keys = turned(k, kvHeads);
  return queries.map((query, at) => {
    const out = new Float64Array(heads * headDim);
    for (let head = 0; head < heads; head++) {
      const kv = Math.floor(head / (heads / kvHeads)) * headDim;
      const scores = keys.slice(0, at + 1).map((key) => {
        let score = 0;
        for (let i = 0; i < headDim; i++) score += (query[head * headDim + i] ?? NaN) * (key[kv + i] ?? NaN);
        return score / Math.sqrt(headDim);
      });
      const most = Math.max(...scores);
      const shares = scores.map((score) => Math.exp(score - most));
      const total = shares.reduce((a, b) => a + b, 0);
      for (const [position, share] of shares.entries())
        for (let i = 0; i < headDim; i++)
          out[head * headDim + i] = (out[head * headDim + i] ?? NaN) + (share / total) * (v[position]?.[kv + i] ?? NaN);
    }
    return out;
  });
}

function rotated(row: Row, position: number, heads: number, headDim: number, theta: number): Row {
  const out = row.slice();
  const half = headDim / 2;
  for (let head = 0; head < heads; head++)
    for (let i = 0; i < half; i++) {
      const angle = position * theta ** (-i / half);
      const [a, b] = [row[head * headDim + i] ?? NaN, row[head * headDim + half + i] ?? NaN];
      out[head * headDim + i] = a * Math.cos(angle) - b * Math.sin(angle);
      out[head * headDim + half + i] = b * Math.cos(angle) + a * Math.sin(angle);
    }
  return out;
}
