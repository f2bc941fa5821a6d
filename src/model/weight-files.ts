/** Inflates the gzip-compressed weight files of a model folder into memory for ONNX Runtime. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { gunzip } from 'node:zlib';
import type { WeightFiles } from '../runtime/session.js';
import type { Manifest } from './manifest.js';

const SUFFIX = '.gz';
const inflate = promisify(gunzip);

/** Inflates every `*.gz` file of the folder. @throws Error that names the file that can't be inflated */
export async function loadCompressedWeights(dir: string, manifest: Manifest): Promise<WeightFiles> {
  const compressed = manifest.files.map(({ path }) => path).filter((path) => path.endsWith(SUFFIX));
  const entries = await Promise.all(
    compressed.map(async (path) => {
      try {
        return [path.slice(0, -SUFFIX.length), await inflate(await readFile(join(dir, path)))] as const;
      } catch (error) {
        throw new Error(`${path}: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
      }
    }),
  );
  return new Map(entries);
}
