/**
 * Exit blocks from a safetensors file: `exits.{layer}.layers.{i}.{Hugging Face name}` and `exits.{layer}.norm.weight`.
 *
 * Knows: that naming. Must not know: how blocks are trained or run.
 */
import type { Architecture } from '../model/manifest.js';
import { checkNoOthers, checkTensor, layerShapes } from './check.js';
import { ConvertError } from './errors.js';
import { openSafetensors, type Safetensors } from './hf/safetensors.js';

export interface ExitBlocks {
  source: Safetensors;
  /** Exit layer -> number of layers of its block (0: only a norm of its own). */
  depths: ReadonlyMap<number, number>;
}

/** The plain sorted model. */
export const NO_EXIT_BLOCKS: ExitBlocks = {
  source: {
    names: [],
    tensor(name) {
      throw new ConvertError('missing_tensor', `there are no exit blocks, and so no ${name}`);
    },
    close: () => undefined,
  },
  depths: new Map(),
};

const NAME = /^exits\.(\d+)\.(?:norm\.weight|layers\.(\d+)\..+)$/;

/** Opens and checks the file: only exits before the last, complete layers, a norm for each. */
export function openExitBlocks(file: string, exits: readonly number[], arch: Architecture): ExitBlocks {
  const source = openSafetensors(file);
  try {
    const depths = new Map<number, number>();
    for (const name of source.names) {
      const match = NAME.exec(name);
      if (!match) throw new ConvertError('bad_source', `${file}: ${name} is no tensor of an exit block`);
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
