/** Faults of the file system in words. */

const WORDS: Readonly<Record<string, string>> = {
  ENOENT: 'it does not exist',
  EACCES: 'no permission',
  EISDIR: 'it is a folder',
  ENOTDIR: 'a part of its path is no folder',
};

/** @param code of an error of the file system, such as ENOENT */
export function inWords(code: string): string {
  return WORDS[code] ?? code;
}
