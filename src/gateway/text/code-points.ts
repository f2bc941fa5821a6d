/** Lengths of text as other programs count them. */

/** Characters of two UTF-16 units each. */
const PAIRS = /[\uD800-\uDBFF][\uDC00-\uDFFF]/g;

/** @returns the number of code points, which Python's `len` and vLLM's offsets count */
export function codePointLength(text: string): number {
  return text.length - (text.match(PAIRS)?.length ?? 0);
}
