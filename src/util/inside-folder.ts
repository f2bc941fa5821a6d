/**
 * The border of a model folder, which may come from anyone: a name in it leads to a regular file inside of it. A FIFO
 * hangs its reader, a device has no end, and a link may lead to files of this machine. The hub's cache is the
 * exception: its snapshots are links to the blobs beside them.
 *
 * Must not know: formats of models.
 */
import { existsSync, realpathSync, statSync } from 'node:fs';
import path from 'node:path';

/** Whether a name, as text alone, stays in the folder that it is relative to. */
export function staysInside(name: string): boolean {
  return name !== '' && !name.includes('\0') && !path.isAbsolute(name) && !name.split(/[/\\]/).includes('..');
}

/**
 * @param name of a file, relative to the folder
 * @returns its path, also of a file that is missing
 * @throws Error for a name or a link that leads outside of the folder, and for a folder, FIFO or device
 */
export function insideFolder(folder: string, name: string): string {
  if (!staysInside(name))
    throw new Error(`${folder} must name files of its folder, got ${JSON.stringify(name.slice(0, 200))}`);
  const file = path.join(folder, name);
  if (!existsSync(file)) return file;
  const root = realpathSync(folder);
  const real = realpathSync(file);
  const snapshots = path.dirname(root);
  const roots = path.basename(snapshots) === 'snapshots' ? [root, path.join(snapshots, '..', 'blobs')] : [root];
  if (!roots.some((each) => real.startsWith(each + path.sep)))
    throw new Error(`${file} must be in its folder, got a link to ${real}`);
  const found = statSync(real);
  if (!found.isFile())
    throw new Error(`cannot read ${file}: it is ${found.isDirectory() ? 'a folder' : 'not a regular file'}`);
  return file;
}
