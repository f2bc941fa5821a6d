/**
 * Reads exit blocks from safetensors: `exits.{layer}.layers.{i}.{Hugging Face name}`, `exits.{layer}.norm.weight`. The
 * names are those of the architecture's own layers.
 */
import { addLayer, byTable, type Recipe } from './architectures/recipe.js';
import { checkNoOthers, checkTensor, layerShapes } from './check.js';
import { ConvertError, UsageError } from './conversion-error.js';
import { openSafetensors } from './formats/hf/safetensors.js';
import type { ModelSource } from './source.js';
import { LAYER, type Tensors } from './tensors.js';

export interface ExitBlocks {
  source: Tensors & { readonly close: () => void };
  /** Exit layer -> number of layers in its block (0: the exit has only a norm of its own). */
  depths: ReadonlyMap<number, number>;
}

/** A sorted model without exit blocks. */
export const NO_EXIT_BLOCKS: ExitBlocks = {
  source: {
    names: [],
    tensor(name) {
      throw new ConvertError(`the model has no exit blocks and no ${name}`);
    },
    close: () => undefined,
  },
  depths: new Map(),
};

const NAME = /^exits\.(\d+)\.(?:norm\.weight|layers\.(\d+)\..+)$/;

/** Opens a file of exit blocks; see `exitBlocksOf`. */
export function openExitBlocks(
  file: string,
  exits: readonly number[],
  model: Pick<ModelSource, 'architecture' | 'blocks'>,
): ExitBlocks {
  const stored = openSafetensors(file);
  try {
    return exitBlocksOf({ ...stored, file }, exits, model);
  } catch (error) {
    stored.close();
    throw error;
  }
}

/** Checks that the tensors are those of exits below the last layer, complete layers, and a norm for each. */
export function exitBlocksOf(
  stored: Tensors & { readonly file: string; readonly close: () => void },
  exits: readonly number[],
  { architecture: arch, blocks }: Pick<ModelSource, 'architecture' | 'blocks'>,
): ExitBlocks {
  const { file } = stored;
  const depths = new Map<number, number>();
  for (const name of stored.names) {
    const match = NAME.exec(name);
    if (!match) throw new ConvertError(`${file}: ${name} is not a tensor of an exit block`);
    const exit = Number(match[1]);
    if (!exits.slice(0, -1).includes(exit))
      throw new UsageError(
        `--exits must name ${exit} below the last layer, since ${file} has a block of it (${name}), got ${exits.join(',')}`,
      );
    const depth = match[2] === undefined ? 0 : Number(match[2]) + 1;
    depths.set(exit, Math.max(depths.get(exit) ?? 0, depth));
  }
  const table = new Map<string, Recipe>();
  for (const [exit, depth] of depths) {
    table.set(exitNorm(exit), { ...blocks.norm, stored: exitNorm(exit) });
    for (let i = 0; i < depth; i++) addLayer(table, blocks.layer, exitLayer(exit, i), exitLayer(exit, i));
  }
  const source = { ...byTable(stored, table), close: stored.close };
  const shapes = layerShapes(arch);
  const known = new Set<string>();
  const check = (name: string, shape: readonly number[]): void => {
    checkTensor(source, name, shape, file);
    known.add(name);
  };
  for (const [exit, depth] of depths) {
    check(exitNorm(exit), [arch.hidden]);
    for (let i = 0; i < depth; i++) for (const [part, shape] of shapes) check(exitLayer(exit, i) + LAYER[part], shape);
  }
  checkNoOthers(source.names, known);
  return { source, depths };
}

export const exitNorm = (exit: number): string => `exits.${exit}.norm.weight`;
export const exitLayer = (exit: number, index: number): string => `exits.${exit}.layers.${index}.`;

/** Prefixes of the initializers of a layer of the trunk, and of a block. */
export const trunkName = (layer: number): string => `layers.${layer}`;
export const blockLayerName = (exit: number, index: number): string => exitLayer(exit, index).slice(0, -1);

/** Numbers each exit by the layers that run for a token, block included: exits then compare by cost. */
export function exitNumbers(exits: readonly number[], { depths }: ExitBlocks): number[] {
  const numbers = exits.map((exit) => exit + (depths.get(exit) ?? 0));
  for (const [i, number] of numbers.entries())
    if (i > 0 && number <= (numbers[i - 1] ?? 0))
      throw new UsageError(
        `each exit must run more layers than the one before, its block included; got ${numbers.join(', ')}`,
      );
  return numbers;
}
