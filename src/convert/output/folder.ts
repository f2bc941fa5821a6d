/**
 * A folder that appears complete or not at all: written beside its final place, then renamed.
 *
 * Knows: the file system. Must not know: what is in the folder.
 */
import { closeSync, existsSync, fsyncSync, mkdirSync, openSync, readdirSync, renameSync, rmSync } from 'node:fs';
import path from 'node:path';
import { ConvertError } from '../errors.js';

/** Runs `write` in a temporary sibling of `out` and renames it there; removes it where `write` fails. */
export async function writeFolder<T>(out: string, force: boolean, write: (folder: string) => Promise<T>): Promise<T> {
  const target = path.resolve(out);
  if (existsSync(target) && !force)
    throw new ConvertError('out_exists', `--out ${out} exists; choose another folder or add --force to replace it`);
  const temporary = `${target}.partial-${process.pid}`;
  mkdirSync(temporary, { recursive: true });
  try {
    const result = await write(temporary);
    for (const name of readdirSync(temporary)) sync(path.join(temporary, name));
    sync(temporary);
    const old = `${target}.old-${process.pid}`;
    const replaces = existsSync(target);
    if (replaces) renameSync(target, old);
    renameSync(temporary, target);
    sync(path.dirname(target));
    if (replaces) rmSync(old, { recursive: true });
    return result;
  } catch (error) {
    rmSync(temporary, { recursive: true, force: true });
    throw error;
  }
}

function sync(file: string): void {
  const fd = openSync(file, 'r');
  fsyncSync(fd);
  closeSync(fd);
}
