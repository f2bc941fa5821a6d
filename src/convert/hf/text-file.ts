/** Reads a small text of a model folder. The folder may come from anyone: a FIFO would hang, and a device has no end. */
import { readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import { ConvertError } from '../errors.js';
import { inside } from './inside.js';

/** The largest tokenizers have 35 MB. */
const MAX_TEXT_BYTES = 256 * 2 ** 20;

/** @throws ConvertError bad_source for a path outside of the folder or no regular file, or a longer one */
export function readText(folder: string, name: string): string {
  const file = path.join(folder, name);
  const fail = (why: string) => new ConvertError('bad_source', `cannot read ${file}: ${why}`);
  try {
    const { size } = regular(inside(folder, name), fail);
    if (size > MAX_TEXT_BYTES) throw fail(`it has ${size} bytes, at most ${MAX_TEXT_BYTES} are expected`);
    return readFileSync(file, 'utf8');
  } catch (cause) {
    throw cause instanceof ConvertError ? cause : fail((cause as Error).message);
  }
}

function regular(file: string, fail: (why: string) => ConvertError): { readonly size: number } {
  const stat = statSync(file);
  if (!stat.isFile()) throw fail(`it is ${stat.isDirectory() ? 'a folder' : 'not a regular file'}`);
  return stat;
}
