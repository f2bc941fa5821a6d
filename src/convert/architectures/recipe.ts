/**
 * Recipes: how the weights of the graphs follow from the tensors that a format stores, by name.
 *
 * Must not know: architectures, file formats.
 */
import { ConvertError } from '../conversion-error.js';
import {
  EMBEDDING,
  FINAL_NORM,
  HEAD,
  LAYER,
  trunkLayer,
  type Part,
  type SourceTensor,
  type Tensors,
} from '../tensors.js';

export interface Recipe {
  /** Name of the stored tensor; in a layer, without the layer's prefix. */
  readonly stored: string;
  /** The rows of one part, in a tensor that packs several parts into `of` rows. */
  readonly rows?: { readonly start: number; readonly count: number; readonly of: number };
  /** Head size, if the rows of each head alternate between the two rotary halves (llama.cpp). */
  readonly alternate?: number;
  readonly plus?: number;
  readonly factor?: number;
}

export interface Recipes {
  /** Prefix of a layer's stored tensors, by index. */
  readonly prefix: (index: number) => string;
  readonly layer: ReadonlyMap<Part, Recipe>;
  readonly embedding: Recipe;
  readonly norm: Recipe;
  readonly head: Recipe;
}

/**
 * The tensors that the recipes make, by Hugging Face's names for a Llama, and the stored tensors that no recipe reads.
 */
export function cooked(raw: Tensors, recipes: Recipes, layers: number): Tensors {
  const table = new Map<string, Recipe>([
    [EMBEDDING, recipes.embedding],
    [FINAL_NORM, recipes.norm],
    [HEAD, recipes.head],
  ]);
  // A damaged file may claim billions of layers; checkTensors reports layers without tensors.
  for (let i = 0; i < Math.min(layers, raw.names.length); i++)
    addLayer(table, recipes.layer, trunkLayer(i), recipes.prefix(i));
  return byTable(raw, table);
}

/** Adds the recipes of one layer: names below `prefix` from tensors below `stored`. */
export function addLayer(
  table: Map<string, Recipe>,
  layer: ReadonlyMap<Part, Recipe>,
  prefix: string,
  stored: string,
): void {
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
  let tensor = stored;
  if (rows !== undefined) tensor = part(tensor, rows);
  if (alternate !== undefined) tensor = halves(tensor, alternate);
  if (plus === 0 && factor === 1) return tensor;
  const plain = tensor;
  return {
    ...plain,
    rows: (start, count) => plain.rows(start, count).map((value) => (value + plus) * factor),
  };
}

function part(tensor: SourceTensor, { start, count, of }: NonNullable<Recipe['rows']>): SourceTensor {
  const [rows, ...width] = tensor.shape;
  if (rows !== of)
    throw new ConvertError(`tensor ${tensor.name} must have ${of} rows, got [${tensor.shape.join(', ')}]`);
  if (width.length === 0)
    return { ...tensor, shape: [count], rows: () => tensor.rows(0, 1).slice(start, start + count) };
  return { ...tensor, shape: [count, ...width], rows: (first, some) => tensor.rows(start + first, some) };
}

/** Puts the two rotary halves of each head one after the other: row i + h * D/2 is the stored row 2i + h. */
function halves(tensor: SourceTensor, headDim: number): SourceTensor {
  const from = (row: number): number => {
    const within = row % headDim;
    const half = headDim / 2;
    return row - within + 2 * (within % half) + (within < half ? 0 : 1);
  };
  const [length = 0, width] = tensor.shape;
  if (width === undefined)
    return {
      ...tensor,
      rows() {
        const stored = tensor.rows(0, 1);
        return Float32Array.from({ length }, (_, row) => stored[from(row)] ?? 0);
      },
    };
  return {
    ...tensor,
    rows(start, count) {
      // The order changes only inside a head, so read the whole heads around the rows.
      const first = Math.floor(start / headDim) * headDim;
      const last = Math.min(Math.ceil((start + count) / headDim) * headDim, length);
      const stored = tensor.rows(first, last - first);
      const out = new Float32Array(count * width);
      for (let r = 0; r < count; r++) {
        const at = (from(start + r) - first) * width;
        out.set(stored.subarray(at, at + width), r * width);
      }
      return out;
    },
  };
}
