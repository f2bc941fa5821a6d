/** The places where a text may end: sentences and lines. */

/** A closing mark of a sentence with its quotes, brackets and emphasis, before a space or the end of the text. */
const MARK = /(?:[.!?…]+["'”’)\]*_]*(?=\s|$)|[。！？؟।]["'”’」』）]*)/gu;
/** The number or letter of a list item, whose point ends no sentence. */
const ITEM = /^\s*(?:\d+|[A-Za-z])\.$/;
/** A line that goes on below, or that has no text. */
const OPEN = /(?:[:,;]|^[\s\d.*#-]*)$/u;

/**
 * Ends of the sentences and lines of a text, as lengths of its prefixes, rising. A line that ends with a colon or comma
 * is no end. The end of the whole text is one.
 */
export function sentenceEnds(text: string): number[] {
  const ends = new Set<number>();
  const lineStart = (at: number): number => text.lastIndexOf('\n', at - 1) + 1;
  for (const { index, 0: mark } of text.matchAll(MARK)) {
    const end = index + mark.length;
    if (!ITEM.test(text.slice(lineStart(end), end))) ends.add(end);
  }
  for (const { index } of text.matchAll(/[^\S\n]*\n/gu))
    if (!OPEN.test(text.slice(lineStart(index), index))) ends.add(index);
  if (text.trim() !== '') ends.add(text.length);
  return [...ends].filter((end) => end > 0).sort((a, b) => a - b);
}
