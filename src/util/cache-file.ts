/**
 * Small files in a folder that several servers may share.
 *
 * Must not know: the contents.
 */
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';

/** @returns the text, or null without a file, with the reason for the log if the file can't be read */
export function readCacheFile(file: string): { readonly text: string | null; readonly why: string | null } {
  try {
    return { text: readFileSync(file, 'utf8'), why: null };
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    return { text: null, why: code === 'ENOENT' ? null : `${file} can't be read (${code ?? 'unknown error'})` };
  }
}

/** Writes a file in one piece, and its folder if it is missing. @returns the reason of a failed write, or null */
export function writeCacheFile(file: string, text: string): string | null {
  // The process id alone is not unique: containers that share the folder may use the same ids.
  const draft = `${file}.${process.pid}-${randomBytes(4).toString('hex')}`;
  const dir = dirname(file);
  try {
    makeDir(dirname(dir));
    makeDir(dir);
    writeFileSync(draft, text);
    // The rename is atomic: another server never reads half a file.
    renameSync(draft, file);
    return null;
  } catch (error) {
    removeDraft(draft);
    return `${file} can't be written (${(error as NodeJS.ErrnoException).code ?? 'unknown error'})`;
  }
}

/** Not recursive: under folders that fail with ENOENT, such as /proc, a recursive mkdir never returns. */
function makeDir(dir: string): void {
  try {
    mkdirSync(dir);
  } catch (error) {
    // An existing folder is fine: another server may just have created it.
    if (!existsSync(dir)) throw error;
  }
}

/** Removes the temporary file: on a full disk, each start would leave another one. */
function removeDraft(draft: string): void {
  try {
    rmSync(draft, { force: true });
  } catch {
    // A folder that rejects removals rejected the write as well.
  }
}
