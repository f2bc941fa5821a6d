/**
 * Cuts a long text at boundaries of a byte-level tokenizer, so that pieces can be encoded one by one. A space begins a
 * word in every such pre-tokenizer; in GPT-2's, punctuation also ends before a letter.
 */
import type { NormalizerJson, PreTokenizerJson, TokenizerJson } from './token-bytes.js';

/** UTF-16 units per piece: about 5 ms of encoding, short for the other streams of the event loop. */
const PIECE_UNITS = 2048;

/**
 * Longest piece for the event loop, in UTF-16 units: at this length a piece takes 16 to 46 ms of a core. Longest pieces
 * of ordinary texts, minified libraries included, have 1,700 units, or 3,700 if punctuation is not a boundary.
 */
export const LONG_PIECE_UNITS = 4 * PIECE_UNITS;

/** A step, or the steps of a Sequence. */
interface Steps<Step> {
  readonly type: string;
  readonly pretokenizers?: readonly Step[];
  readonly normalizers?: readonly Step[];
}

/** Boundaries before a single space and a word: a pre-token holds a space only at its beginning. */
const SPACES = /(?<=\S)(?= \S)/gu;

/** GPT-2 also has a boundary between punctuation and a letter; Llama 3 joins a letter to one character before it. */
const SPACES_AND_STOPS = /(?<=\S)(?= \S)|(?<=[.,!?;:\u3001\u3002\uff0c\uff01\uff1f])(?=\p{L})/gu;

const CONTRACTION = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";
const BLANKS = '\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+';
/** Words, and numbers of up to `digits` digits. */
const words = (digits: string): string =>
  `${CONTRACTION}|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|${digits}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|${BLANKS}`;

const UPPER = '[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]';
const LOWER = '[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]';
/** Words that end where a capital follows a small letter. @param end of a word */
const casedWords = (end: string, digits: string): string =>
  `[^\\r\\n\\p{L}\\p{N}]?${UPPER}*${LOWER}+${end}|[^\\r\\n\\p{L}\\p{N}]?${UPPER}+${LOWER}*${end}|${digits}` +
  `| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|${BLANKS}`;

/** The expressions of known models that split texts. A piece takes them milliseconds. */
export const SPLITS = {
  digits: '\\p{N}',
  llama3: words('\\p{N}{1,3}'),
  qwen2: words('\\p{N}'),
  tekken: casedWords('', '\\p{N}'),
  gpt4o: casedWords(`${CONTRACTION}?`, '\\p{N}{1,3}'),
} as const;
const SPLIT: ReadonlySet<string | undefined> = new Set(Object.values(SPLITS));

/** Steps of known models. More of them are no tokenizer, and each may double a text. */
const MOST_STEPS = 4;
const COMPOSITIONS = ['NFC', 'NFD', 'NFKC', 'NFKD'];

/** Whether the length of a text bounds the time of this tokenizer: none of its steps is unknown. */
export function isQuick({ model, normalizer = null, pre_tokenizer: root = null }: TokenizerJson): boolean {
  const steps = stepsOf(root);
  const normalizers = stepsOf(normalizer);
  const isKnown = (step: PreTokenizerJson): boolean =>
    step.type === 'ByteLevel' || step.type === 'Digits' || (step.type === 'Split' && SPLIT.has(step.pattern?.Regex));
  const areFew = steps.length + normalizers.length <= MOST_STEPS;
  return model.type === 'BPE' && areFew && steps.every(isKnown) && normalizers.every(keepsLength);
}

/** Llama 2 begins a text with a space, and writes spaces as another character. */
function keepsLength({ type, pattern, content = '', prepend = '' }: NormalizerJson): boolean {
  if (type === 'Prepend') return prepend.length === 1;
  return type === 'Replace' ? pattern?.String?.length === 1 && content.length === 1 : COMPOSITIONS.includes(type);
}

/** @returns the boundaries at which this byte-level tokenizer allows cuts, or null if it allows none */
export function boundaryOf({ pre_tokenizer: root = null, added_tokens: added = [] }: TokenizerJson): RegExp | null {
  const steps = stepsOf(root);
  // Without a split, a text is one word. A token that contains or strips spaces would be cut apart.
  const isSplit = steps.some((step) => step.type === 'Split' || isGpt2(step));
  const isSpaced = added.some(
    ({ content, lstrip, rstrip }) => /\s/.test(content) || lstrip === true || rstrip === true,
  );
  if (!isSplit || isSpaced) return null;
  const isCut = added.some(({ content }) => content.search(SPACES_AND_STOPS) >= 0);
  // A tokenizer that prepends a space to a text would prepend one to each piece without a space.
  const isPlain = steps.every((step) => isDigits(step) || (isGpt2(step) && step.add_prefix_space !== true));
  return isPlain && !isCut ? SPACES_AND_STOPS : SPACES;
}

function stepsOf<Step extends Steps<Step>>(step: Step | null): readonly Step[] {
  if (step === null) return [];
  return step.type === 'Sequence' ? (step.pretokenizers ?? step.normalizers ?? []).flatMap(stepsOf<Step>) : [step];
}

/** A step that isolates digits only adds boundaries. */
function isDigits({ type, pattern }: PreTokenizerJson): boolean {
  return type === 'Digits' || (type === 'Split' && pattern?.Regex === '\\p{N}');
}

function isGpt2({ type, use_regex: regex }: PreTokenizerJson): boolean {
  return type === 'ByteLevel' && regex !== false;
}

/**
 * Yields pieces that together are the text. A piece is longer than PIECE_UNITS only if it has no boundary.
 * @param boundary result of `boundaryOf`
 */
export function* textPieces(text: string, boundary: RegExp): Generator<string> {
  let start = 0;
  while (text.length - start > PIECE_UNITS) {
    boundary.lastIndex = start + PIECE_UNITS;
    const end = boundary.exec(text)?.index ?? text.length;
    yield text.slice(start, end);
    start = end;
  }
  if (start < text.length) yield text.slice(start);
}
