/** Reads manifests of versions 1 and 2, which named a family and described a Llama. */
import { type Static, Type } from '../util/schema.js';
import { validationMessage } from '../util/validation-message.js';
import type { Architecture } from './architecture.js';
import { MANIFEST_VERSION } from './manifest.js';

const Llama = Type.Object({
  architecture: Type.Object({
    family: Type.Literal('llama'),
    layers: Type.Integer(),
    hidden: Type.Integer(),
    heads: Type.Integer(),
    kvHeads: Type.Integer(),
    headDim: Type.Integer(),
    ffn: Type.Integer(),
    vocab: Type.Integer(),
    context: Type.Integer(),
    normEps: Type.Number(),
    ropeTheta: Type.Number(),
    ropeScaling: Type.Union([
      Type.Object({
        type: Type.Literal('llama3'),
        factor: Type.Number(),
        lowFreqFactor: Type.Number(),
        highFreqFactor: Type.Number(),
        originalContext: Type.Integer(),
      }),
      Type.Null(),
    ]),
    tiedHead: Type.Boolean(),
    attentionBias: Type.Boolean(),
  }),
});

/**
 * Returns the manifest in the current version; one of this version is returned as it is.
 * @returns a text instead for an architecture of an older version that is faulty: the field and the rule
 */
export function upgraded(json: unknown): object | string {
  const version = (json as { version?: unknown } | null)?.version;
  if (version !== 1 && version !== 2) return json as object;
  const fault = validationMessage(Llama, json);
  if (fault !== null) return fault;
  return { ...(json as object), version: MANIFEST_VERSION, architecture: described(json as Static<typeof Llama>) };
}

function described({ architecture }: Static<typeof Llama>): Architecture {
  const { layers, hidden, heads, kvHeads, headDim, ffn, vocab, context, normEps, tiedHead } = architecture;
  const { ropeTheta, ropeScaling, attentionBias } = architecture;
  return {
    ...{ layers, hidden, heads, kvHeads, headDim, ffn, vocab, context, normEps, tiedHead },
    ...PLAIN,
    pattern: [...PLAIN.pattern],
    qkvBias: attentionBias,
    outputBias: attentionBias,
    attentionScale: headDim ** -0.5,
    rotary: [{ theta: ropeTheta, width: headDim, scaling: ropeScaling }],
  };
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
