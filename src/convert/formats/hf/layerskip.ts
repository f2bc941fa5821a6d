/**
 * The exits of a LayerSkip checkpoint (arXiv 2404.16710): a plain Llama whose layers were all trained as exits with the
 * shared norm and head. No field of its config says so, but its names do.
 */
import path from 'node:path';
import { readOptionalText } from './files.js';

/** Exits that a folder gets without `--exits`. */
const EXITS = 4;

/**
 * @param name `_name_or_path` of the config
 * @returns every quarter of the layers if the config, the model card or the hub's folder names LayerSkip; else null
 */
export function layerSkipExits(folder: string, name: unknown, layers: number): number[] | null {
  const names = [
    String(name),
    // The cache of the hub has one folder for each repository.
    /models--[^/]*/.exec(path.resolve(folder))?.[0] ?? '',
    /^#+ .*$/m.exec(readOptionalText(folder, 'README.md') ?? '')?.[0] ?? '',
  ];
  if (!names.some((each) => /layer-?skip/i.test(each))) return null;
  const exits = Array.from({ length: EXITS }, (_, i) => Math.ceil(((i + 1) * layers) / EXITS));
  return [...new Set(exits)];
}
