/**
 * Drafts from text that is there already: what followed the last tokens where they stood before (prompt lookup
 * decoding), or a text that the caller expects.
 *
 * Knows: token ids. Must not know: models, sequences.
 */

/** Tokens that must agree before what follows them is worth a try. */
const KEY = 3;

/**
 * What followed the latest earlier occurrence of the text's last three tokens. A text that repeats itself goes on
 * repeating: past the end, the draft is read from itself.
 * @returns at most `most` tokens; none without such an occurrence
 */
export function lookUp(text: readonly number[], most: number): number[] {
  const end = text.length;
  for (let at = end - 1; at >= KEY; at--) if (isSameEnd(text, at, text, end, KEY)) return follow(text, at, most);
  return [];
}

/**
 * What follows in an expected text: from its beginning as long as the answer is that beginning, else after the
 * answer's last three tokens.
 * @returns at most `most` tokens
 */
export function lookUpIn(expected: readonly number[], answer: readonly number[], most: number): number[] {
  const end = answer.length;
  if (end <= expected.length && isSameEnd(expected, end, answer, end, end)) return expected.slice(end, end + most);
  for (let at = KEY; at < expected.length; at++)
    if (end >= KEY && isSameEnd(expected, at, answer, end, KEY)) return expected.slice(at, at + most);
  return [];
}

/** Whether the `count` tokens before `a[aEnd]` and before `b[bEnd]` are the same. */
function isSameEnd(a: readonly number[], aEnd: number, b: readonly number[], bEnd: number, count: number): boolean {
  for (let back = 1; back <= count; back++) if (a[aEnd - back] !== b[bEnd - back]) return false;
  return true;
}

function follow(text: readonly number[], from: number, most: number): number[] {
  const draft: number[] = [];
  for (let at = from; draft.length < most; at++) {
    const token = at < text.length ? text[at] : draft[at - text.length];
    if (token === undefined) break;
    draft.push(token);
  }
  return draft;
}
