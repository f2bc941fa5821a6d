/** Reads exit blocks from safetensors: `exits.{layer}.layers.{i}.{Hugging Face name}`, `exits.{layer}.norm.weight`. */
import type { Architecture } from '../model/manifest.js';
import { checkNoOthers, checkTensor, layerShapes } from './check.js';
import { ConvertError } from './errors.js';
import { openSafetensors, type Safetensors } from './hf/safetensors.js';

export interface ExitBlocks {
  source: Safetensors;
  /** Exit layer -> number of layers in its block (0: the exit has only a norm of its own). */
  depths: ReadonlyMap<number, number>;
}

/** A sorted model without exit blocks. */
export const NO_EXIT_BLOCKS: ExitBlocks = {
  source: {
    names: [],
    tensor(name) {
      throw new ConvertError('missing_tensor', `the model has no exit blocks and no ${name}`);
    },
    close: () => undefined,
  },
  depths: new Map(),
};

const NAME = /^exits\.(\d+)\.(?:norm\.weight|layers\.(\d+)\..+)$/;

/** Opens the file and checks that it holds only exits below the last layer, complete layers, and a norm for each. */
export function openExitBlocks(file: string, exits: readonly number[], arch: Architecture): ExitBlocks {
  const source = openSafetensors(file);
  try {
    const depths = new Map<number, number>();
    for (const name of source.names) {
      const match = NAME.exec(name);
      if (!match) throw new ConvertError('bad_source', `${file}: ${name} is not a tensor of an exit block`);
      const exit = Number(match[1]);
      if (!exits.slice(0, -1).includes(exit))
        throw new ConvertError(
          'bad_exits',
          `--exits must name ${exit} below the last layer, since ${file} has a block of it (${name}), got ${exits.join(',')}`,
        );
      const depth = match[2] === undefined ? 0 : Number(match[2]) + 1;
      depths.set(exit, Math.max(depths.get(exit) ?? 0, depth));
    }
    const shapes = layerShapes(arch);
    const known = new Set<string>();
    const check = (name: string, shape: readonly number[]): void => {
      checkTensor(source, name, shape, file);
      known.add(name);
    };
    for (const [exit, depth] of depths) {
      check(exitNorm(exit), [arch.hidden]);
      for (let i = 0; i < depth; i++) for (const [name, shape] of shapes) check(exitLayer(exit, i) + name, shape);
    }
    checkNoOthers(source.names, known);
    return { source, depths };
  } catch (error) {
    source.close();
    throw error;
  }
}

export const exitNorm = (exit: number): string => `exits.${exit}.norm.weight`;
export const exitLayer = (exit: number, index: number): string => `exits.${exit}.layers.${index}.`;
