/**
 * The form and the language that a text asks for. An English sentence about the length breaks both (`bench:everyday
 * --hints`): lists and tables become prose, and other languages English.
 *
 * Pure. Must not know: chats.
 */

const LIST = /\b(?:numbered|bullet(?:ed)?|ordered|shopping|check)[- ]?lists?\b/i;
const DATA = /\b(?:tables?|bullets?|json|xml|yaml|csv|html|markdown)\b/i;
const CODE = /```|\b(?:code|function|script|query|program|regex|python|javascript|typescript|sql)\b/i;

/** Whether a text asks for a form other than prose, or holds code. */
export function asksForm(text: string): boolean {
  return LIST.test(text) || DATA.test(text) || CODE.test(text);
}

const anyOf = (words: string): string => String.raw`\b(?:${words.replaceAll(' ', '|')})\b`;

/** Words of English, and words of other languages that its texts rarely have. */
const ENGLISH = [
  anyOf('the is are of to and for what which who why how where when does can you your my this that with hello'),
  anyOf('write give tell explain describe one two three four five six seven eight nine ten'),
];
const OTHERS = [
  anyOf('der das und ist ein eine wie wo wer le la les el los las un une una est es que qui del des du de'),
  anyOf('van het een wat il di che o os da em'),
  // A letter beyond ASCII.
  String.raw`[^\s\p{ASCII}\p{P}\p{S}]`,
];

function count(patterns: readonly string[], text: string): number {
  return text.match(new RegExp(patterns.join('|'), 'giu'))?.length ?? 0;
}

/** Whether a text reads as English. Without any common word it does not. */
export function readsAsEnglish(text: string): boolean {
  return count(ENGLISH, text) > count(OTHERS, text);
}
