/** Recipes of a family's weights, by the names of each format, and the tensors that they make. */
import { layerShapes } from '../check.js';
import { ConvertError } from '../conversion-error.js';
import { EMBEDDING, FINAL_NORM, HEAD, LAYER, PER_LAYER, trunkLayer } from '../source.js';
import type { Part, Recipe, Recipes, SourceTensor, Tensors } from '../source.js';
import { reordered } from '../weight.js';
import type { Description, Family } from './family.js';

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
  perLayerGate: 'inp_gate.weight',
  perLayerUp: 'proj.weight',
  perLayerNorm: 'post_norm.weight',
  layerScale: 'layer_output_scale.weight',
};

const GGUF_PER_LAYER = {
  table: 'per_layer_token_embd.weight',
  projection: 'per_layer_model_proj.weight',
  norm: 'per_layer_proj_norm.weight',
} as const satisfies Record<keyof typeof PER_LAYER, string>;

/** The recipes of a folder, and of exit blocks. */
export function folderRecipes(family: Family, description: Description): Recipes {
  const differences = family.tensors?.(description.architecture) ?? {};
  const plus = family.normOffset ?? 0;
  return {
    prefix: (index) => `model.layers.${index}.`,
    layer: layerRecipes(description, (part) => ({
      stored: LAYER[part],
      ...differences[part],
      ...(NORMS.includes(part) && { plus }),
    })),
    embedding: { stored: EMBEDDING },
    norm: { stored: FINAL_NORM, plus, factor: description.logitScale },
    head: { stored: HEAD },
    perLayer: perLayerRecipes(description, PER_LAYER),
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
    perLayer: perLayerRecipes(description, GGUF_PER_LAYER),
  };
}

/** The multipliers of the layers' inputs: table and norm share the mean of both, and the projection has its own. */
function perLayerRecipes({ architecture }: Description, names: Record<keyof typeof PER_LAYER, string>) {
  const { perLayer = 0, hidden } = architecture;
  return {
    table: { stored: names.table, factor: Math.sqrt(perLayer / 2) },
    projection: { stored: names.projection, factor: hidden ** -0.5 },
    norm: { stored: names.norm, factor: Math.SQRT1_2 },
  };
}

function layerRecipes({ architecture, residualScale }: Description, recipe: (part: Part) => Recipe): Recipes['layer'] {
  return new Map(
    [...layerShapes(architecture).keys()].map((part) => [
      part,
      { ...recipe(part), ...(LAST.includes(part) && architecture.norms === 'pre' && { factor: residualScale }) },
    ]),
  );
}

/**
 * The tensors that the recipes make, by Hugging Face's names for a Llama, and the stored tensors that no recipe reads.
 */
export function cooked(raw: Tensors, recipes: Recipes, layers: number): Tensors {
  const table = new Map([
    [EMBEDDING, recipes.embedding],
    [FINAL_NORM, recipes.norm],
    [HEAD, recipes.head],
    [PER_LAYER.table, recipes.perLayer.table],
    [PER_LAYER.projection, recipes.perLayer.projection],
    [PER_LAYER.norm, recipes.perLayer.norm],
  ]);
  // A damaged file may claim billions of layers; checkTensors reports layers without tensors.
  for (let i = 0; i < Math.min(layers, raw.names.length); i++)
    addLayer(table, recipes.layer, trunkLayer(i), recipes.prefix(i));
  return byTable(raw, table);
}

/** Adds the recipes of one layer: names below `prefix` from tensors below `stored`. */
export function addLayer(table: Map<string, Recipe>, layer: Recipes['layer'], prefix: string, stored: string): void {
  for (const [part, recipe] of layer) table.set(prefix + LAYER[part], { ...recipe, stored: stored + recipe.stored });
}

/** The tensors of a table of recipes by name, and the stored tensors that no recipe reads. */
export function byTable(raw: Tensors, table: ReadonlyMap<string, Recipe>): Tensors {
  const stored = new Set(raw.names);
  const read = new Set([...table.values()].map((recipe) => recipe.stored));
  return {
    names: [
      ...[...table].flatMap(([name, recipe]) => (stored.has(recipe.stored) ? [name] : [])),
      ...raw.names.filter((name) => !read.has(name)),
    ],
    tensor(name) {
      const recipe = table.get(name);
      if (recipe === undefined) throw new ConvertError(`the source has no tensor for ${name}`);
      return made(raw.tensor(recipe.stored), recipe);
    },
  };
}

function made(stored: SourceTensor, { rows, alternate, plus = 0, factor = 1 }: Recipe): SourceTensor {
  const part = rows === undefined ? stored : partOf(stored, rows);
  const tensor = alternate === undefined ? part : reordered(part, halves(alternate));
  if (plus === 0 && factor === 1) return tensor;
  return { ...tensor, rows: (start, count) => tensor.rows(start, count).map((value) => (value + plus) * factor) };
}

function partOf(tensor: SourceTensor, { start, count, of }: NonNullable<Recipe['rows']>): SourceTensor {
  const [rows, ...width] = tensor.shape;
  if (rows !== of)
    throw new ConvertError(`tensor ${tensor.name} must have ${of} rows, got [${tensor.shape.join(', ')}]`);
  const shape = [count, ...width];
  if (width.length === 0) return { ...tensor, shape, rows: () => tensor.rows(0, 1).slice(start, start + count) };
  return { ...tensor, shape, rows: (first, some) => tensor.rows(start + first, some) };
}

/** The order that puts the two rotary halves of a head one after the other: row i + h * D/2 is the row 2i + h. */
function halves(headDim: number): number[] {
  const half = headDim / 2;
  return Array.from({ length: headDim }, (_, row) => 2 * (row % half) + (row < half ? 0 : 1));
}
