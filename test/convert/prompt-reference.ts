/**
 * A model with a prompt exit in float64, written from its formulas.
 *
 * Layers up to the exit are those of a Llama. A deeper layer has keys and values of norm_swiftkv(h), h the states at the
 * exit, by the projections of the first layer of its group. Its queries come from its own normed input by
 * q_proj_swiftkv. All positions do so, of prompt and answer.
 */
import { attention, mlp, normed, product, sum, vectorOf, type LoopShape, type Row } from './loop-reference.js';
import type { Weights } from './tiny.js';

export interface PromptShape extends Omit<LoopShape, 'loops' | 'betweenLoops'> {
  readonly exit: number;
  readonly group: number;
}

/** Logits of all positions. */
export function promptLogits(weights: Weights, shape: PromptShape, ids: readonly number[]): Row[] {
  const { headDim, eps, exit, group } = shape;
  const vector = (name: string): Row => Float64Array.from(weights.get(name)?.data ?? []);
  const norm = (x: Row, name: string): Row => normed(x, vector(name), eps);
  const times = (name: string, x: Row): Row => product(vectorOf(weights, name), x);
  const width = weights.get('model.norm.weight')?.data.length ?? 0;
  const table = vector('model.embed_tokens.weight');
  const head = weights.has('lm_head.weight') ? 'lm_head.weight' : 'model.embed_tokens.weight';
  /** A projection with its bias and the norm of each head, as far as the model has them. */
  const projected = (layer: number, part: 'q' | 'k' | 'v', suffix: string, x: Row): Row => {
    const name = (kind: string): string => `model.layers.${layer}.self_attn.${part}_${kind}${suffix}`;
    const plain = times(`${name('proj')}.weight`, x);
    const bias = weights.get(`${name('proj')}.bias`);
    const out = bias === undefined ? plain : sum(plain, Float64Array.from(bias.data));
    const scale = `${name('norm')}.weight`;
    if (!weights.has(scale)) return out;
    for (let at = 0; at < out.length; at += headDim) out.set(norm(out.slice(at, at + headDim), scale), at);
    return out;
  };
  let states: Row[] = ids.map((id) => table.slice(id * width, (id + 1) * width));
  let shared: Row[] = [];
  for (let layer = 0; layer < shape.layers; layer++) {
    const at = (part: string): string => `model.layers.${layer}.${part}`;
    if (layer === exit) shared = states.map((x) => norm(x, 'model.norm_swiftkv.weight'));
    const inputs = states.map((x) => norm(x, at('input_layernorm.weight')));
    const isDeep = layer >= exit;
    const leader = isDeep ? layer - ((layer - exit) % group) : layer;
    const suffix = isDeep ? '_swiftkv' : '';
    const made = (part: 'k' | 'v'): Row[] => (isDeep ? shared : inputs).map((x) => projected(leader, part, suffix, x));
    const attended = attention(
      inputs.map((x) => projected(layer, 'q', suffix, x)),
      made('k'),
      made('v'),
      { ...shape, loops: 1, betweenLoops: false },
    );
    states = states.map((x, i) => sum(x, times(at('self_attn.o_proj.weight'), attended[i] ?? new Float64Array())));
    states = states.map((x) => sum(x, mlp(weights, at(''), norm(x, at('post_attention_layernorm.weight')))));
  }
  return states.map((x) => times(head, norm(x, 'model.norm.weight')));
}
