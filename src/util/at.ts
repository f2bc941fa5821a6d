/** The entry of an index that must exist. @throws RangeError for an index without an entry */
export function at<T>(entries: ArrayLike<T>, index: number): T {
  const entry = entries[index];
  if (entry === undefined) throw new RangeError(`no entry ${index} of ${entries.length}`);
  return entry;
}
