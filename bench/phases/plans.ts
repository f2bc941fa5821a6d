/** Plans of bench:phases: the exit layer of the next token, by the text so far. Pure. */

export interface Plan {
  readonly name: string;
  readonly layerAt: (text: string) => number;
}

/** Where the first sentence of a text ends: index behind its last character; null if it has not ended. */
export function sentenceEnd(text: string): number | null {
  const match = /[.!?]["')\]]*(?=\s)|\n/.exec(text.trimStart());
  return match === null ? null : text.length - text.trimStart().length + match.index + match[0].length;
}

/** The key of a flat JSON object whose value comes next or is being written; null between values. */
export function keyAt(text: string): string | null {
  let key: string | null = null;
  let string: string | null = null;
  let last = '';
  for (let i = 0; i < text.length; i++) {
    const char = text.charAt(i);
    if (string !== null) {
      if (char === '\\') i++;
      else if (char === '"') [last, string] = [string, null];
      else string += char;
    } else if (char === '"') string = '';
    else if (char === ':') key = last;
    else if (char === ',' || char === '{' || char === '}') key = null;
  }
  return key;
}

/**
 * @param text "15" for one exit, "10>30" for another one after the first phase: the first sentence, or, with keys, all
 * text but the values of these keys
 * @throws Error for another form
 */
export function planOf(text: string, keys: readonly string[] | null): Plan {
  const [, first, second] = /^(\d+)(?:>(\d+))?$/.exec(text) ?? [];
  if (first === undefined) throw new Error(`--plans must be exits like 15 or pairs like 10>30, got "${text}"`);
  const [before, after] = [Number(first), Number(second ?? first)];
  if (keys === null) return { name: text, layerAt: (written) => (sentenceEnd(written) === null ? before : after) };
  return { name: text, layerAt: (written) => (keys.includes(keyAt(written) ?? '') ? after : before) };
}

/** F1 of the words of two texts, whatever their case and order. */
export function wordsInCommon(a: string, b: string): number {
  const [first, second] = [a, b].map((text) => text.toLowerCase().match(/\w+/g) ?? []);
  const left = [...(second ?? [])];
  const found = (first ?? []).filter((word) => {
    const at = left.indexOf(word);
    if (at >= 0) left.splice(at, 1);
    return at >= 0;
  }).length;
  const all = (first?.length ?? 0) + (second?.length ?? 0);
  return all === 0 ? 1 : (2 * found) / all;
}
