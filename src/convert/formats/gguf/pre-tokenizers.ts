/**
 * llama.cpp's names of pre-tokenizers (llama-vocab.cpp), and the steps in the tokenizer.json of those models.
 *
 * Must not know: vocabularies.
 */

export interface PreTokenizer {
  /** `pre_tokenizer` of tokenizer.json. */
  readonly step: object;
  /** Whether a token that spells a whole piece wins over merges. */
  readonly ignoresMerges: boolean;
  /** Whether texts begin with a begin token unless the file says otherwise. */
  readonly addsBos: boolean;
  /** Whether texts are composed (Unicode NFC) first. */
  readonly composes: boolean;
}

export const byteLevel = (useRegex: boolean) => ({
  type: 'ByteLevel',
  add_prefix_space: false,
  trim_offsets: true,
  use_regex: useRegex,
});

const CONTRACTION = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";
const SPACES = '\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+';
/** Words, and numbers of up to `digits` digits. */
const words = (digits: string): string =>
  `${CONTRACTION}|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|${digits}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|${SPACES}`;

const UPPER = '[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]';
const LOWER = '[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]';
/** Words that end where a capital follows a small letter. @param end of a word */
const casedWords = (end: string, digits: string): string =>
  `[^\\r\\n\\p{L}\\p{N}]?${UPPER}*${LOWER}+${end}|[^\\r\\n\\p{L}\\p{N}]?${UPPER}+${LOWER}*${end}|${digits}` +
  `| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|${SPACES}`;

/** @param useRegex whether GPT-2's expression splits the pieces further */
const split = (regex: string, useRegex = false): object => ({
  type: 'Sequence',
  pretokenizers: [
    { type: 'Split', pattern: { Regex: regex }, behavior: 'Isolated', invert: false },
    byteLevel(useRegex),
  ],
});
/** The step `Digits` of these models; the library's own step of that name knows 0 to 9 alone. */
const digits = split('\\p{N}', true);

const plain = (step: object, others: Partial<PreTokenizer> = {}): PreTokenizer => ({
  step,
  ignoresMerges: false,
  addsBos: false,
  composes: false,
  ...others,
});

export const PRE_TOKENIZERS: ReadonlyMap<string, PreTokenizer> = new Map([
  ['smollm', plain(digits)],
  ['refact', plain(digits)],
  ['gpt-2', plain(byteLevel(true))],
  ['llama-bpe', plain(split(words('\\p{N}{1,3}')), { ignoresMerges: true, addsBos: true })],
  ['smaug-bpe', plain(split(words('\\p{N}{1,3}')))],
  ['dbrx', plain(split(words('\\p{N}{1,3}')))],
  ['qwen2', plain(split(words('\\p{N}')), { composes: true })],
  ['tekken', plain(split(casedWords('', '\\p{N}')), { ignoresMerges: true, addsBos: true })],
  ['gpt-4o', plain(split(casedWords(`${CONTRACTION}?`, '\\p{N}{1,3}')))],
]);
