/**
 * Drafts from existing text: the continuation of an earlier occurrence of the last tokens (prompt lookup decoding), or
 * a text that the client expects.
 *
 * Must not know: models, sequences.
 */

/** Tokens that must agree at the end of the text and at the earlier occurrence. */
const KEY_TOKENS = 3;

/**
 * Continues the text like the latest earlier occurrence of its last three tokens. If the continuation reaches the end
 * of the text, it goes on with its own tokens: a text that repeats itself keeps repeating.
 * @returns at most `most` tokens; none without an earlier occurrence
 */
export function lookUp(text: readonly number[], most: number): number[] {
  const end = text.length;
  for (let at = end - 1; at >= KEY_TOKENS; at--)
    if (isSameEnd(text, at, text, end, KEY_TOKENS)) return follow(text, at, most);
  return [];
}

/**
 * Continues an answer from an expected text. An answer that is the beginning of that text continues there; any other
 * answer continues after its last three tokens.
 * @returns at most `most` tokens
 */
export function lookUpIn(expected: readonly number[], answer: readonly number[], most: number): number[] {
  const end = answer.length;
  if (end <= expected.length && isSameEnd(expected, end, answer, end, end)) return expected.slice(end, end + most);
  for (let at = KEY_TOKENS; at < expected.length; at++)
    if (end >= KEY_TOKENS && isSameEnd(expected, at, answer, end, KEY_TOKENS)) return expected.slice(at, at + most);
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
