/** Descriptions of models by their readers: the architecture of the graphs, and the folding that the recipes do. */
import type { Architecture, LayerKind } from '../../engine/model/architecture.js';
import { LAYER, type Part } from '../tensors.js';
import { layerShapes } from '../check.js';
import type { Fields } from './fields.js';
import type { Recipe, Recipes } from './recipe.js';

export interface Description {
  readonly architecture: Architecture;
  /** Multiplier of the outputs of attention and MLP; the weights of their last projection take it. */
  readonly residualScale: number;
  /** Multiplier of the logits; the norms in front of the head take it. */
  readonly logitScale: number;
}

/** Recipes that differ from those of a Llama, by part. */
export type Differences = Partial<Record<Part, Recipe>>;

/** An architecture that the converter reads. */
export interface Family {
  /** Names of the classes in `architectures` of config.json, with their `model_type`. */
  readonly classes: Readonly<Record<string, string>>;
  /** Fields that the class has if the config leaves them out. */
  readonly defaults?: Readonly<Record<string, unknown>>;
  /** Values of `general.architecture` of GGUF files; absent: none of its own. */
  readonly gguf?: readonly string[];
  /** @throws ConvertError for a field that the graphs cannot follow */
  fromConfig(config: Fields): Description;
  /** The same for a GGUF file; absent: as of a Llama. */
  fromMetadata?(metadata: GgufFields): Description;
  /** Tensors of a folder's layer that are not named or packed like a Llama's. */
  readonly tensors?: (arch: Architecture) => Differences;
  /** The same for a GGUF file. */
  readonly ggufTensors?: (arch: Architecture) => Differences;
  /** Added to the weights of all norms in a folder; GGUF files hold the sums. */
  readonly normOffset?: number;
  /** Whether a GGUF file stores the rows of q and k in alternating rotary order. */
  readonly alternates?: boolean;
  /**
   * A folder's linear layer from a loop's end to one value, the probability to stop there: its `.weight` and `.bias`.
   */
  readonly gate?: string;
  /**
   * Published right answers of the class by loop, as a share of those of all loops; 0 for a loop without a figure. It
   * counts for a model with as many loops.
   */
  readonly loopAccuracy?: readonly number[];
}

/** Metadata below the architecture's name, and the tensors of the file. */
export interface GgufFields {
  readonly name: string;
  /** Path, for errors. */
  readonly file: string;
  readonly fields: Fields;
  readonly vocab: number;
  has(tensor: string): boolean;
  /** All values of a small tensor; null if the file lacks it. */
  values(tensor: string): Float32Array | null;
}

const NORMS: readonly Part[] = ['attnNorm', 'mlpNorm', 'attnOutNorm', 'mlpOutNorm', 'qNorm', 'kNorm'];
const ROTATED: readonly Part[] = ['q', 'k', 'qBias', 'kBias'];
const LAST: readonly Part[] = ['o', 'oBias', 'down'];

const GGUF_NAMES: Readonly<Record<Part, string>> = {
  attnNorm: 'attn_norm.weight',
  q: 'attn_q.weight',
  k: 'attn_k.weight',
  v: 'attn_v.weight',
  o: 'attn_output.weight',
  qBias: 'attn_q.bias',
  kBias: 'attn_k.bias',
  vBias: 'attn_v.bias',
  oBias: 'attn_output.bias',
  mlpNorm: 'ffn_norm.weight',
  gate: 'ffn_gate.weight',
  up: 'ffn_up.weight',
  down: 'ffn_down.weight',
  qNorm: 'attn_q_norm.weight',
  kNorm: 'attn_k_norm.weight',
  attnOutNorm: 'post_attention_norm.weight',
  mlpOutNorm: 'post_ffw_norm.weight',
};

/** The recipes of a folder, and of exit blocks. */
export function folderRecipes(family: Family, description: Description): Recipes {
  const { architecture, logitScale } = description;
  const differences = family.tensors?.(architecture) ?? {};
  const plus = family.normOffset ?? 0;
  return {
    prefix: (index) => `model.layers.${index}.`,
    layer: layerRecipes(description, (part) => ({
      stored: LAYER[part],
      ...differences[part],
      ...(NORMS.includes(part) && { plus }),
    })),
    embedding: { stored: 'model.embed_tokens.weight' },
    norm: { stored: 'model.norm.weight', plus, factor: logitScale },
    head: { stored: 'lm_head.weight' },
  };
}

/** The recipes of a GGUF file. */
export function ggufRecipes(family: Family, description: Description): Recipes {
  const { architecture, logitScale } = description;
  const differences = family.ggufTensors?.(architecture) ?? {};
  return {
    prefix: (index) => `blk.${index}.`,
    layer: layerRecipes(description, (part) => ({
      stored: GGUF_NAMES[part],
      ...differences[part],
      ...(family.alternates && ROTATED.includes(part) && { alternate: architecture.headDim }),
    })),
    embedding: { stored: 'token_embd.weight' },
    norm: { stored: 'output_norm.weight', factor: logitScale },
    head: { stored: 'output.weight' },
  };
}

function layerRecipes(
  { architecture, residualScale }: Description,
  recipe: (part: Part) => Recipe,
): ReadonlyMap<Part, Recipe> {
  return new Map(
    [...layerShapes(architecture).keys()].map((part) => [
      part,
      { ...recipe(part), ...(LAST.includes(part) && architecture.norms === 'pre' && { factor: residualScale }) },
    ]),
  );
}

/** The shortest pattern that repeats to the kinds of all layers. */
export function patternOf(kinds: readonly LayerKind[]): LayerKind[] {
  const equal = (a: LayerKind | undefined, b: LayerKind | undefined): boolean =>
    a?.rotary === b?.rotary && a?.window === b?.window;
  let period = 1;
  while (!kinds.every((kind, i) => equal(kind, kinds[i % period]))) period++;
  return kinds.slice(0, period);
}

/** The window of a layer; null if no sequence is longer. */
export function windowOf(positions: number | null, context: number): number | null {
  return positions === null || positions >= context ? null : positions;
}
