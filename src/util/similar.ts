/** Finds the word that a misspelt word most likely means. */

/** Least insertions, deletions and replacements of a character between two words (Levenshtein). */
function distance(from: string, to: string): number {
  let row = Array.from({ length: to.length + 1 }, (_, column) => column);
  for (const [i, letter] of Array.from(from).entries()) {
    const next = [i + 1];
    for (const [j, other] of Array.from(to).entries()) {
      const replaced = (row[j] ?? 0) + (letter === other ? 0 : 1);
      next.push(Math.min(replaced, (row[j + 1] ?? 0) + 1, (next[j] ?? 0) + 1));
    }
    row = next;
  }
  return row.at(-1) ?? 0;
}

/** @returns the known word that differs least, or null if each differs by more than `most` characters */
export function mostSimilar(word: string, known: readonly string[], most = 3): string | null {
  const ranked = known.map((each) => ({ each, edits: distance(word, each) })).sort((a, b) => a.edits - b.edits);
  const [best] = ranked;
  return best !== undefined && best.edits <= most ? best.each : null;
}
