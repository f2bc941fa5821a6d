/** The weight files of a folder: gzip-compressed ones are inflated into memory, and a large table stays in its file. */
import { closeSync, openSync, readSync, realpathSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { gunzip } from 'node:zlib';
import { releaseMapped } from '../runtime/libc.js';
import type { WeightFiles } from '../runtime/session.js';
import type { Manifest } from './manifest.js';
import { externalTensors, type Placed } from './onnx-weights.js';

const SUFFIX = '.gz';
/** Most bytes that a call reads. */
const MOST_READ = 2 ** 30;
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

/**
 * The bytes of a weight.
 * @param weights the folder's inflated weight files; others are read from the folder
 */
export function weightBytes(dir: string, weights: WeightFiles, { location, offset, length }: Placed): Uint8Array {
  return weights.get(location)?.subarray(offset, offset + length) ?? readPart(join(dir, location), offset, length);
}

/** Rows of the layers' own inputs that a process reads until it returns their pages, up to 128 KiB for each. */
const MOST_ROWS = 256;

/** The files of an embedding whose table of the layers' own inputs stays in the file. */
export class RowFiles {
  readonly #files: readonly string[];
  #rows = MOST_ROWS;

  constructor(dir: string, { architecture, embed }: Manifest) {
    const tensors = architecture.perLayer === undefined ? [] : externalTensors(join(dir, embed));
    this.#files = [...new Set(tensors.map(({ location }) => realpathSync(join(dir, location))))];
  }

  /** Call it behind each read of so many rows. */
  read(rows: number): void {
    this.#rows += rows;
    if (this.#files.length === 0 || this.#rows < MOST_ROWS) return;
    releaseMapped(this.#files);
    this.#rows = 0;
  }
}

function readPart(file: string, offset: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  const fd = openSync(file, 'r');
  try {
    for (let done = 0; done < length;) {
      const read = readSync(fd, bytes, done, Math.min(length - done, MOST_READ), offset + done);
      if (read === 0) throw new Error(`${file} ends before byte ${offset + length}`);
      done += read;
    }
  } finally {
    closeSync(fd);
  }
  return bytes;
}
