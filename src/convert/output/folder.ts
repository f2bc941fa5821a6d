/** Writes a folder beside its final place and then renames it, so that it appears complete or not at all. */
import { randomBytes } from 'node:crypto';
import {
  closeSync,
  existsSync,
  fsyncSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
} from 'node:fs';
import path from 'node:path';
import { MANIFEST_FILE } from '../../engine/model/manifest-io.js';
import { UsageError, OutExistsError } from '../conversion-error.js';

export interface Output {
  readonly out: string;
  /** Whether an existing model folder, or an empty folder, is replaced. */
  readonly force: boolean;
  /** Files that are read during the conversion; a folder that holds any of them is not replaced. */
  readonly inputs: readonly string[];
}

/**
 * Runs `write` in a temporary sibling of `out` and renames the result. Removes the sibling if `write` fails.
 * @throws ConvertError if `out` exists and must not be replaced
 */
export async function writeFolder<T>(output: Output, write: (folder: string) => Promise<T>): Promise<T> {
  const target = path.resolve(output.out);
  checkReplaceable(target, output);
  // The random part is needed: in a container every run has the same pid, and a killed run may have left its folder.
  const run = `${process.pid}-${randomBytes(4).toString('hex')}`;
  const temporary = `${target}.partial-${run}`;
  mkdirSync(path.dirname(target), { recursive: true });
  mkdirSync(temporary);
  const remove = (): void => {
    rmSync(temporary, { recursive: true, force: true });
  };
  // A process can exit before the finally block runs, for example when its output pipe closes.
  process.once('exit', remove);
  try {
    const result = await write(temporary);
    for (const name of readdirSync(temporary)) sync(path.join(temporary, name));
    sync(temporary);
    // Check again: another process may have created the folder during the conversion, which takes minutes.
    checkReplaceable(target, output);
    replace(target, temporary, `${target}.old-${run}`);
    return result;
  } catch (error) {
    remove();
    throw error;
  } finally {
    process.off('exit', remove);
  }
}

function checkReplaceable(target: string, { out, force, inputs }: Output): void {
  if (lstatSync(target, { throwIfNoEntry: false }) === undefined) return;
  // A folder can't replace a link, so fail here and not after the conversion.
  if (!existsSync(target)) throw new OutExistsError(`--out ${out} is a link to a missing target`);
  const real = realpathSync(target);
  const held = inputs.find((input) => existsSync(input) && isWithin(realpathSync(input), real));
  if (held !== undefined) throw new UsageError(`--out must be a folder without input files, got ${out} with ${held}`);
  if (!force) throw new OutExistsError(`--out ${out} exists; choose another folder or add --force to replace it`);
  // The system can't rename a mount point, so fail here and not after the conversion.
  if (lstatSync(target).dev !== statSync(path.dirname(target)).dev)
    throw new UsageError(`--out must be a folder that can be renamed, got the mount point ${out}`);
  if (!isModelFolder(real))
    throw new OutExistsError(
      `--force replaces only an empty folder or a model folder (with a ${MANIFEST_FILE} of sortie), got --out ${out}`,
    );
}

function isWithin(file: string, folder: string): boolean {
  const way = path.relative(folder, file);
  return way !== '..' && !way.startsWith(`..${path.sep}`) && !path.isAbsolute(way);
}

/** Whether a conversion of any version wrote the folder, or the folder is empty. */
function isModelFolder(folder: string): boolean {
  if (!statSync(folder).isDirectory()) return false;
  if (readdirSync(folder).length === 0) return true;
  try {
    const manifest = JSON.parse(readFileSync(path.join(folder, MANIFEST_FILE), 'utf8')) as { format?: unknown } | null;
    return manifest?.format === 'sortie';
  } catch {
    return false;
  }
}

/** Puts `source` in the place of `target`, and restores `target` on failure. */
function replace(target: string, source: string, old: string): void {
  const replaces = existsSync(target);
  if (replaces) renameSync(target, old);
  try {
    renameSync(source, target);
  } catch (error) {
    if (replaces) renameSync(old, target);
    throw error;
  }
  sync(path.dirname(target));
  if (replaces) rmSync(old, { recursive: true });
}

function sync(file: string): void {
  const fd = openSync(file, 'r');
  fsyncSync(fd);
  closeSync(fd);
}
