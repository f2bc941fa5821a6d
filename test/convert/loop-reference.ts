/**
 * A looped model in float64, written from its formulas: the reference of the looped models' tests.
 *
 * h = embedding; loop t: each layer adds norm2(attention(norm1(h))) and norm4(mlp(norm3(h))), then h = norm(h). The logits of
 * loop t are W h. Keys and values of a layer differ from loop to loop. A model with norms of inputs alone has no norm2 and
 * norm4.
 */
import type { Weights } from './tiny.js';

export interface LoopShape {
  readonly layers: number;
  readonly loops: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly theta: number;
  readonly eps: number;
  /** Whether the norm ends every loop, or stands in front of the head alone. */
  readonly betweenLoops: boolean;
}

export type Row = Float64Array;

/** Logits by loop and position, of all positions of a prompt. */
export function loopLogits(weights: Weights, shape: LoopShape, ids: readonly number[]): Row[][] {
  const vector = (name: string): Row => Float64Array.from(weights.get(name)?.data ?? []);
  const has = (name: string): boolean => weights.has(name);
  const times = (name: string, x: Row): Row => product(vectorOf(weights, name), x);
  const norm = (x: Row, name: string): Row => normed(x, vector(name), shape.eps);
  const width = weights.get('model.norm.weight')?.data.length ?? 0;
  const table = vector('model.embed_tokens.weight');
  const head = has('lm_head.weight') ? 'lm_head.weight' : 'model.embed_tokens.weight';
  let states: Row[] = ids.map((id) => table.slice(id * width, (id + 1) * width));
  const logits: Row[][] = [];
  for (let loop = 0; loop < shape.loops; loop++) {
    for (let layer = 0; layer < shape.layers; layer++) {
      const at = (part: string): string => `model.layers.${layer}.${part}`;
      const out = (x: Row, name: string): Row => (has(at(name)) ? norm(x, at(name)) : x);
      const inputs = states.map((x) => norm(x, at('input_layernorm.weight')));
      const project = (part: string): Row[] => inputs.map((x) => times(at(`self_attn.${part}.weight`), x));
      const attended = attention(project('q_proj'), project('k_proj'), project('v_proj'), shape);
      states = states.map((x, i) =>
        sum(
          x,
          out(times(at('self_attn.o_proj.weight'), attended[i] ?? new Float64Array()), 'input_layernorm_2.weight'),
        ),
      );
      states = states.map((x) =>
        sum(
          x,
          out(
            mlp(weights, at(''), norm(x, at('post_attention_layernorm.weight'))),
            'post_attention_layernorm_2.weight',
          ),
        ),
      );
    }
    const ends = states.map((x) => norm(x, 'model.norm.weight'));
    logits.push(ends.map((x) => times(head, x)));
    if (shape.betweenLoops) states = ends;
  }
  return logits;
}

export function vectorOf(weights: Weights, name: string): { readonly data: Float32Array; readonly rows: number } {
  const weight = weights.get(name);
  if (weight === undefined) throw new Error(`no weight ${name}`);
  return { data: weight.data, rows: weight.shape[0] ?? 0 };
}

export function product({ data, rows }: { readonly data: Float32Array; readonly rows: number }, x: Row): Row {
  return Float64Array.from({ length: rows }, (_, row) =>
    x.reduce((total, value, i) => total + value * (data[row * x.length + i] ?? NaN), 0),
  );
}

/** The gated MLP of a layer. @param prefix of its weights */
export function mlp(weights: Weights, prefix: string, x: Row): Row {
  const times = (part: string, values: Row): Row =>
    product(vectorOf(weights, `${prefix}mlp.${part}_proj.weight`), values);
  const up = times('up', x);
  const gated = times('gate', x).map((value, i) => (value / (1 + Math.exp(-value))) * (up[i] ?? NaN));
  return times('down', gated);
}

export function sum(a: Row, b: Row): Row {
  return a.map((value, i) => value + (b[i] ?? NaN));
}

export function normed(x: Row, scale: Row, eps: number): Row {
  const root = Math.sqrt(x.reduce((total, value) => total + value * value, 0) / x.length + eps);
  return x.map((value, i) => (value / root) * (scale[i] ?? NaN));
}

/** Causal attention with rotary positions; channel i of a head turns with channel i + D/2. */
export function attention(q: Row[], k: Row[], v: Row[], { heads, kvHeads, headDim, theta }: LoopShape): Row[] {
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
