/** Inflates the gzip-compressed weight files of a model folder into memory for ONNX Runtime. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { gunzip } from 'node:zlib';
import type { WeightFiles } from '../runtime/session.js';
import type { Manifest } from './manifest.js';

const SUFFIX = '.gz';
const inflate = promisify(gunzip);

/** The gzip-compressed files of a model folder. */
export function compressedFiles({ files }: Manifest): string[] {
  return files.map(({ path }) => path).filter((path) => path.endsWith(SUFFIX));
}

/**
 * Inflates every `*.gz` file of the folder.
 * @param inflated called after each file
 * @throws Error that names the file that can't be inflated
 */
export async function loadCompressedWeights(
  dir: string,
  manifest: Manifest,
  inflated: () => void = () => undefined,
): Promise<WeightFiles> {
  const entries = await Promise.all(
    compressedFiles(manifest).map(async (path) => {
      try {
        const bytes = await inflate(await readFile(join(dir, path)));
        inflated();
        return [path.slice(0, -SUFFIX.length), bytes] as const;
      } catch (error) {
        throw new Error(`${path}: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
      }
    }),
  );
  return new Map(entries);
}
