/**
 * Exits of a conversion: early layers, loops of a looped model, and blocks, which a safetensors file has as
 * `exits.{layer}.layers.{i}.{Hugging Face name}` and `exits.{layer}.norm.weight`. The names are those of the
 * architecture's own layers.
 */
import type { Architecture } from '../engine/model/architecture.js';
import type { Quality, StageEntry } from '../engine/model/manifest.js';
import { addLayer, byTable } from './architectures/recipe.js';
import { checkShapes, layerShapes } from './check.js';
import { ConvertError, UsageError } from './conversion-error.js';
import { openSafetensors } from './formats/hf/safetensors.js';
import { LAYER, type ModelSource, type Recipe, type TensorFile } from './source.js';

export interface ExitBlocks {
  readonly source: TensorFile;
  /** Exit layer -> number of layers in its block (0: the exit has only a norm of its own). */
  readonly depths: ReadonlyMap<number, number>;
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

export const exitNorm = (exit: number): string => `exits.${exit}.norm.weight`;
export const exitLayer = (exit: number, index: number): string => `exits.${exit}.layers.${index}.`;

/** Prefixes of the initializers of a layer of the trunk, and of a block. */
export const trunkName = (layer: number): string => `layers.${layer}`;
export const blockLayerName = (exit: number, index: number): string => exitLayer(exit, index).slice(0, -1);

/**
 * The layers that run for a token at each exit.
 * @param asked layers that increase up to the last one, or loops 1 to n of a looped model; null: the deepest exit, or
 * all loops
 * @throws UsageError
 */
export function exitsOf(asked: readonly number[] | null, { layers, loops }: Architecture): readonly number[] {
  const rule = (isKept: boolean, text: string): void => {
    if (!isKept) throw new UsageError(`--exits ${text}`);
  };
  const listed = asked?.join(',');
  if (loops === undefined) {
    const exits = asked ?? [layers];
    rule(exits.length > 0, 'must name at least one layer');
    rule(
      exits.every((exit) => Number.isInteger(exit) && exit >= 1),
      `must be positive layer numbers, got ${listed}`,
    );
    rule(
      exits.every((exit, i) => exit > (exits[i - 1] ?? 0)),
      `must increase, got ${listed}`,
    );
    rule(exits.at(-1) === layers, `must end at the last layer, ${layers}, got ${listed}`);
    return exits;
  }
  const most = loops.count;
  const kept = asked ?? Array.from({ length: most }, (_, i) => i + 1);
  const beyond = kept.find((loop) => loop > most);
  rule(
    beyond === undefined,
    `of a looped model must be at most its ${most} loops (total_ut_steps or num_loops), got ${beyond}`,
  );
  rule(
    kept.length > 0 && kept.every((loop, i) => loop === i + 1),
    `of a looped model must be its loops from 1 on without a gap, such as 1,2, got ${listed}`,
  );
  return kept.map((loop) => loop * layers);
}

/**
 * The blocks of a conversion: of a file, of the source itself, or none.
 * @throws UsageError for a looped model: a block would branch from a single loop, which no published model has
 */
export function openBlocks(file: string | undefined, exits: readonly number[], source: ModelSource): ExitBlocks {
  if (source.architecture.loops !== undefined && file !== undefined)
    throw new UsageError(`--exit-blocks can't be combined with a looped model, got ${file}`);
  if (file === undefined) return source.ownBlocks === null ? NO_EXIT_BLOCKS : blocksOf(source.ownBlocks, exits, source);
  const stored = openSafetensors(file);
  try {
    return blocksOf({ ...stored, file }, exits, source);
  } catch (error) {
    stored.close();
    throw error;
  }
}

/** Checks that the tensors are those of exits below the last layer, complete layers, and a norm for each. */
function blocksOf(
  stored: TensorFile & { readonly file: string },
  exits: readonly number[],
  { architecture: arch, blocks }: Pick<ModelSource, 'architecture' | 'blocks'>,
): ExitBlocks {
  const { file } = stored;
  const depths = new Map<number, number>();
  for (const name of stored.names) {
    const match = NAME.exec(name);
    if (!match) throw new ConvertError(`${file}: ${name} is not a tensor of an exit block`);
    const exit = Number(match[1]);
    if (!exits.slice(0, -1).includes(exit)) {
      const cause = `since ${file} has a block of it (${name})`;
      throw new UsageError(`--exits must name ${exit} below the last layer, ${cause}, got ${exits.join(',')}`);
    }
    const depth = match[2] === undefined ? 0 : Number(match[2]) + 1;
    depths.set(exit, Math.max(depths.get(exit) ?? 0, depth));
  }
  const table = new Map<string, Recipe>();
  const shapes = new Map<string, readonly number[]>();
  for (const [exit, depth] of depths) {
    table.set(exitNorm(exit), { ...blocks.norm, stored: exitNorm(exit) });
    shapes.set(exitNorm(exit), [arch.hidden]);
    for (let i = 0; i < depth; i++) {
      addLayer(table, blocks.layer, exitLayer(exit, i), exitLayer(exit, i));
      for (const [part, shape] of layerShapes(arch, exit + i)) shapes.set(exitLayer(exit, i) + LAYER[part], shape);
    }
  }
  const source = { ...byTable(stored, table), close: stored.close };
  checkShapes(source, shapes, file);
  return { source, depths };
}

/** Numbers each exit: by its loop, or by the layers that run for a token, block included, to compare exits by cost. */
export function exitNumbers(exits: readonly number[], { depths }: ExitBlocks, { loops }: Architecture): number[] {
  if (loops !== undefined) return exits.map((_, loop) => loop + 1);
  const numbers = exits.map((exit) => exit + (depths.get(exit) ?? 0));
  if (numbers.every((number, i) => number > (numbers[i - 1] ?? 0))) return numbers;
  const rule = 'each exit must run more layers than the one before, its block included';
  throw new UsageError(`${rule}; got ${numbers.join(', ')}`);
}

/**
 * The published quality of a loop: its accuracy as a share of that of the deepest loop that is kept.
 * @param source with figures of as many loops as it has; else there are none
 * @param kept loops of the folder
 */
export function publishedQuality({ loopAccuracy, architecture }: ModelSource, kept: number, loop: number): Quality {
  if (loopAccuracy?.length !== architecture.loops?.count) return {};
  const deepest = loopAccuracy?.[kept - 1] ?? 0;
  const accuracy = loopAccuracy?.[loop - 1];
  return accuracy === undefined || deepest === 0 ? {} : { accuracy: Number((accuracy / deepest).toFixed(3)) };
}

/** The stages of a graph that runs once for each loop. */
export function loopStages(graph: StageEntry, loops: number): StageEntry[] {
  return Array.from({ length: loops }, (_, i) => ({ ...graph, name: `loop-${i + 1}`, boundary: i }));
}
