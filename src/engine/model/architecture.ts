/** A dense decoder as a manifest describes it. Must not know: graphs, files. */
import { type Static, Type } from '../../util/schema.js';

const Positive = Type.Number({ exclusiveMinimum: 0 });

/** How the frequencies of a rotary table differ from those of `theta`, as in transformers (modeling_rope_utils.py). */
export const RopeScaling = Type.Union([
  Type.Object({ type: Type.Literal('linear'), factor: Positive }),
  Type.Object({
    type: Type.Literal('llama3'),
    factor: Positive,
    lowFreqFactor: Positive,
    highFreqFactor: Positive,
    originalContext: Type.Integer({ minimum: 1 }),
  }),
  Type.Object({
    type: Type.Literal('yarn'),
    factor: Positive,
    betaFast: Positive,
    betaSlow: Positive,
    originalContext: Type.Integer({ minimum: 1 }),
    /** Multiplier of cosines and sines. */
    attentionFactor: Positive,
    /** Whether the bounds of the ramp are whole pairs. */
    truncate: Type.Boolean(),
  }),
  Type.Object({
    type: Type.Literal('longrope'),
    /**
     * Divisors of the pairs' frequencies: the long ones if the context exceeds `originalContext`, else the short ones.
     */
    shortFactors: Type.Array(Positive),
    longFactors: Type.Array(Positive),
    originalContext: Type.Integer({ minimum: 1 }),
    /** Multiplier of cosines and sines. */
    attentionFactor: Positive,
  }),
  /** The first pairs alone turn, by frequencies of the whole width. */
  Type.Object({ type: Type.Literal('proportional'), factor: Positive, pairs: Type.Integer({ minimum: 1 }) }),
]);
export type RopeScaling = Static<typeof RopeScaling>;

/** A table of rotary position embeddings, over the first `width` channels of each head. */
export const Rotary = Type.Object({
  theta: Type.Number(),
  width: Type.Integer({ minimum: 2 }),
  scaling: Type.Union([RopeScaling, Type.Null()]),
});
export type Rotary = Static<typeof Rotary>;

export const LayerKind = Type.Object({
  /** Index of the layer's rotary table; null for a layer without positions. */
  rotary: Type.Union([Type.Integer({ minimum: 0 }), Type.Null()]),
  /** A position reads itself and at most window - 1 positions before it; null: all of them. */
  window: Type.Union([Type.Integer({ minimum: 1 }), Type.Null()]),
  /** Size and number of the layer's KV heads; absent: those of the architecture. */
  headDim: Type.Optional(Type.Integer({ minimum: 1 })),
  kvHeads: Type.Optional(Type.Integer({ minimum: 1 })),
  /** The keys' projection, without norm and rotation, serves as values; absent: values have their own. */
  keysAsValues: Type.Optional(Type.Literal(true)),
});
export type LayerKind = Static<typeof LayerKind>;

/**
 * A block of layers that runs several times over. The block is one graph with one copy of the weights, and each loop is
 * a stage with a KV cache of its own.
 */
export const Loops = Type.Object({
  /** Most loops. */
  count: Type.Integer({ minimum: 1 }),
  /**
   * `final`: the shared norm ends every loop. Its output enters the next loop, and the head adds no norm.
   * `none`: states enter the next loop as they are. The head begins with the norm.
   */
  norm: Type.Union([Type.Literal('final'), Type.Literal('none')]),
});
export type Loops = Static<typeof Loops>;

/** Layers without keys and values: each reads those of the last layer of its kind in front of them (Gemma 4). */
export const Sharing = Type.Object({
  /** The first of them; they go on to the last layer. */
  first: Type.Integer({ minimum: 1 }),
  /** Width of their MLP. */
  ffn: Type.Integer({ minimum: 1 }),
});
export type Sharing = Static<typeof Sharing>;

/**
 * A dense decoder, as the graphs compute it. The converter folds other differences into weights: multipliers of
 * residual and logits, offsets of norms, packed projections.
 */
export const Architecture = Type.Object({
  /** Layers with weights of their own: of a looped model, those of one loop. */
  layers: Type.Integer({ minimum: 1 }),
  /** Absent: every layer runs once. */
  loops: Type.Optional(Loops),
  hidden: Type.Integer({ minimum: 1 }),
  heads: Type.Integer({ minimum: 1 }),
  kvHeads: Type.Integer({ minimum: 1 }),
  headDim: Type.Integer({ minimum: 1 }),
  ffn: Type.Integer({ minimum: 1 }),
  /** Above the vocabularies of all known models: a step has a row of so many logits. */
  vocab: Type.Integer({ minimum: 1, maximum: 2 ** 24 }),
  /** Most positions of a sequence: prompt and answer together. */
  context: Type.Integer({ minimum: 1 }),
  normEps: Type.Number(),
  tiedHead: Type.Boolean(),
  /** Biases of the query, key and value projections. */
  qkvBias: Type.Boolean(),
  /** Bias of the attention's output projection. */
  outputBias: Type.Boolean(),
  /** Norms of queries and keys in front of the rotation: over each head, or over all heads together. */
  qkNorm: Type.Union([Type.Literal('none'), Type.Literal('head'), Type.Literal('all')]),
  /** Norms of attention and MLP: of the input (pre), of the output in front of the residual sum (post), or of both. */
  norms: Type.Union([Type.Literal('pre'), Type.Literal('post'), Type.Literal('both')]),
  activation: Type.Union([Type.Literal('silu'), Type.Literal('gelu_tanh')]),
  /** Multiplier of the attention scores. */
  attentionScale: Positive,
  /** Bound c of the attention scores, c * tanh(score / c); null: none. */
  softcap: Type.Union([Positive, Type.Null()]),
  /** The same bound of the logits. */
  logitSoftcap: Type.Union([Positive, Type.Null()]),
  /** Multiplier of the embeddings. */
  embeddingScale: Positive,
  /** Queries of position p are multiplied by 1 + beta * ln(1 + floor(p / originalContext)); null: they are not. */
  queryGrowth: Type.Union([
    Type.Object({ beta: Positive, originalContext: Type.Integer({ minimum: 1 }) }),
    Type.Null(),
  ]),
  /** Values have a norm of each head without a scale; absent: none. */
  valueNorm: Type.Optional(Type.Literal(true)),
  /** Each layer multiplies the residual stream at its end; absent: none does. */
  layerScale: Type.Optional(Type.Literal(true)),
  /** Width of the input that each layer takes from the token's own row of a table; absent: no layer does. */
  perLayer: Type.Optional(Type.Integer({ minimum: 1 })),
  sharing: Type.Optional(Sharing),
  rotary: Type.Array(Rotary),
  /** Kinds of layers; layer i has the kind i modulo their number. Layer i of the block of exit n counts as n + i. */
  pattern: Type.Array(LayerKind, { minItems: 1 }),
});
export type Architecture = Static<typeof Architecture>;

/** Most layers that run for a token, without those of exit blocks. */
export function depthOf({ layers, loops }: Pick<Architecture, 'layers' | 'loops'>): number {
  return layers * (loops?.count ?? 1);
}

/** The kind of layer `index` of a stack: of the trunk, or of trunk and block up to an exit. */
export function kindOf({ pattern }: Architecture, index: number): LayerKind {
  const kind = pattern[index % pattern.length];
  if (kind === undefined) throw new RangeError('the pattern of layers is empty');
  return kind;
}

/** The architecture as one layer of the stack has it. */
export function ofLayer(arch: Architecture, index: number): Architecture {
  const { headDim = arch.headDim, kvHeads = arch.kvHeads } = kindOf(arch, index);
  const { sharing } = arch;
  return { ...arch, headDim, kvHeads, ffn: sharing && index >= sharing.first ? sharing.ffn : arch.ffn };
}

/** The layers whose keys and values others share, in the order of their first readers. */
export function sharedLayers(arch: Architecture): number[] {
  const { sharing, layers } = arch;
  const first = sharing?.first ?? layers;
  return [...new Set(Array.from({ length: layers - first }, (_, i) => leaderOf(arch, first + i)))];
}

/** The layer whose keys and values a sharing layer reads: the last of its rotation in front of all of these; or -1. */
export function leaderOf(arch: Architecture, layer: number): number {
  const { rotary } = kindOf(arch, layer);
  let at = (arch.sharing?.first ?? layer) - 1;
  while (at >= 0 && kindOf(arch, at).rotary !== rotary) at--;
  return at;
}

/**
 * Values of a position's state at a boundary. The residual stream comes first, then shared keys and values, then the
 * inputs of the layers behind it. Zeros fill it up to the widest boundary.
 */
export function stateWidth(arch: Architecture): number {
  const { hidden, layers, perLayer = 0, sharing } = arch;
  const shared = sharedLayers(arch).reduce((sum, layer) => {
    const { kvHeads, headDim } = ofLayer(arch, layer);
    return sum + 2 * kvHeads * headDim;
  }, 0);
  const behind = sharing === undefined ? 0 : layers - sharing.first;
  return hidden + Math.max(layers * perLayer, shared + behind * perLayer);
}

/** The fields of a Llama that are the same for every Llama. */
export const PLAIN = {
  qkvBias: false,
  outputBias: false,
  qkNorm: 'none',
  norms: 'pre',
  activation: 'silu',
  softcap: null,
  logitSoftcap: null,
  embeddingScale: 1,
  queryGrowth: null,
  pattern: [{ rotary: 0, window: null }],
} as const satisfies Partial<Architecture>;
