/** Kinds of characters for finding the ends of sentences. Characters are Unicode code points. */

export type CharacterKind = 'mark' | 'opener' | 'closer' | 'quote' | 'digit' | 'letter' | 'blank' | 'newline' | 'other';

/** Unicode's marks at the end of a sentence, of all scripts, and the ellipsis. */
const MARK = /[\p{Sentence_Terminal}\u2026]/u;
const KINDS: readonly (readonly [CharacterKind, RegExp])[] = [
  ['newline', /[\n\r\u2028\u2029]/u],
  ['blank', /[\s\u200b]/u],
  ['mark', MARK],
  // Quotation marks open in one language and close in another.
  ['quote', /["'`*_\u201a\u201e\p{Pi}\p{Pf}]/u],
  ['opener', /\p{Ps}/u],
  ['closer', /\p{Pe}/u],
  ['digit', /\p{Nd}/u],
  ['letter', /[\p{L}\p{M}]/u],
];

function compute(code: number): CharacterKind {
  const character = String.fromCodePoint(code);
  return KINDS.find(([, pattern]) => pattern.test(character))?.[0] ?? 'other';
}

/** Kinds of characters that occurred; at most one entry for each character of Unicode. */
const known = new Map<number, CharacterKind>();

/** @param code a code point, up to U+10FFFF */
export function kindOf(code: number): CharacterKind {
  let kind = known.get(code);
  if (kind === undefined) known.set(code, (kind = compute(code)));
  return kind;
}

/**
 * Whether a text that begins so goes on with a sentence behind its closing mark: decimals, abbreviations, addresses,
 * further marks, and a word in lower case.
 */
export function continuesSentence(text: string): boolean {
  return /^(?:[\p{Lu}\p{Ll}\p{Nd}\p{P}`]|[^\S\n\r]*\p{Ll})/u.test(text);
}
