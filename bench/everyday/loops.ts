/** Loops of a text. */

/** Whether a text loops: some sequence of 4 tokens occurs more than 4 times. */
export function loops(tokens: readonly number[]): boolean {
  const counts = new Map<string, number>();
  for (let i = 0; i + 4 <= tokens.length; i++) {
    const key = tokens.slice(i, i + 4).join(' ');
    counts.set(key, (counts.get(key) ?? 0) + 1);
  }
  return Math.max(0, ...counts.values()) > 4;
}
