/** Where prefill chunks end. Their sizes are part of the router's policy. */

/**
 * Where a chunk from `start` ends that may have `most` positions. It leaves no single position for the next one:
 * attention over one position rounds otherwise than over several, and the answer must not depend on the chunk size.
 */
export function chunkEnd(start: number, most: number, target: number): number {
  const end = Math.min(start + most, target);
  return target - end === 1 && end - start > 2 ? end - 1 : end;
}
