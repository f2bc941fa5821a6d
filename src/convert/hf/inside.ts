/**
 * The files of a model folder. A folder may come from anyone, so a link of it must not lead to files of this machine.
 * The hub's cache is the exception: its snapshots are links to the blobs beside them.
 */
import { existsSync, realpathSync } from 'node:fs';
import path from 'node:path';
import { ConvertError } from '../errors.js';

/**
 * @param name of a file
 * @returns its path, also of a file that is missing
 * @throws ConvertError bad_source for a file outside of the folder
 */
export function inside(folder: string, name: string): string {
  const file = path.join(folder, name);
  if (!existsSync(file)) return file;
  const root = realpathSync(folder);
  const real = realpathSync(file);
  const snapshots = path.dirname(root);
  const roots = path.basename(snapshots) === 'snapshots' ? [root, path.join(snapshots, '..', 'blobs')] : [root];
  if (roots.some((each) => real.startsWith(each + path.sep))) return file;
  throw new ConvertError('bad_source', `${file} must be in its folder, got a link to ${real}`);
}
