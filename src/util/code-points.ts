/** Lengths of text as callers count them. Knows: code points. */

/** Two UTF-16 units each. */
const PAIRS = /[\uD800-\uDBFF][\uDC00-\uDFFF]/g;

/** @returns the number of code points: what Python calls the length of a string, and vLLM's offsets count */
export function codePointLength(text: string): number {
  return text.length - (text.match(PAIRS)?.length ?? 0);
}
