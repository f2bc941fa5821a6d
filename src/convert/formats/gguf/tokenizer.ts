/** Turns the tokenizer of a GGUF file (keys tokenizer.ggml.*) into a tokenizer.json. */
import { SPLITS } from '../../../gateway/text/text-pieces.js';
import { ConvertError } from '../../conversion-error.js';
import type { SourceTokenizer } from '../../source.js';
import type { GgufValue, Metadata } from './reader.js';

/** Values of tokenizer.ggml.token_type. */
const TOKEN_TYPE = { unknown: 2, control: 3, userDefined: 4, byte: 6 } as const;

/** Texts of tokens that end a turn or a text, as in llama.cpp; many files name only one of several. */
const END_TOKENS = '<|eot_id|> <|eom_id|> <|im_end|> <|end|> <|endoftext|> <|end_of_text|> <turn|> <eos>'.split(' ');
/** It begins the result of a tool, which the model does not write. Files call it text (Gemma 4). */
const RESULT = '<|tool_response>';

/** The steps in the tokenizer.json of models with a pre-tokenizer that llama.cpp names (llama-vocab.cpp). */
interface PreTokenizer {
  /** `pre_tokenizer` of tokenizer.json. */
  readonly step: object;
  /** A token that spells a whole piece wins over merges, and texts have a begin token unless the file says no. */
  readonly isLlama?: boolean;
  /** Whether texts are composed (Unicode NFC) first. */
  readonly composes?: boolean;
}

const byteLevel = (useRegex: boolean): object => ({
  type: 'ByteLevel',
  add_prefix_space: false,
  trim_offsets: true,
  use_regex: useRegex,
});

/** @param useRegex whether GPT-2's expression splits the pieces further */
const split = (regex: string, useRegex = false): object => ({
  type: 'Sequence',
  pretokenizers: [
    { type: 'Split', pattern: { Regex: regex }, behavior: 'Isolated', invert: false },
    byteLevel(useRegex),
  ],
});
/** The step `Digits` of these models; the library's own step of that name knows 0 to 9 alone. */
const digits = split(SPLITS.digits, true);

export const PRE_TOKENIZERS: ReadonlyMap<string, PreTokenizer> = new Map([
  ['smollm', { step: digits }],
  ['refact', { step: digits }],
  ['gpt-2', { step: byteLevel(true) }],
  ['llama-bpe', { step: split(SPLITS.llama3), isLlama: true }],
  ['smaug-bpe', { step: split(SPLITS.llama3) }],
  ['dbrx', { step: split(SPLITS.llama3) }],
  ['qwen2', { step: split(SPLITS.qwen2), composes: true }],
  ['tekken', { step: split(SPLITS.tekken), isLlama: true }],
  ['gpt-4o', { step: split(SPLITS.gpt4o) }],
]);

/** Throws ConvertError if tokenizer.json has no form for this kind of tokenizer. */
export function ggufTokenizer(metadata: Metadata, path: string): SourceTokenizer {
  const list = (name: string): GgufValue[] => listOf(metadata, `tokenizer.ggml.${name}`, path);
  const tokens = list('tokens').map(String);
  const types = metadata.has('tokenizer.ggml.token_type') ? list('token_type').map(Number) : tokens.map(() => 1);
  const template = metadata.get('tokenizer.chat_template');
  const id = (key: string): number | null => {
    const value = metadata.get(`tokenizer.ggml.${key}_token_id`);
    return typeof value === 'number' && Number.isInteger(value) && value >= 0 && value < tokens.length ? value : null;
  };
  const flag = (key: string, fallback: boolean): boolean =>
    (metadata.get(`tokenizer.ggml.${key}`) as boolean | undefined) ?? fallback;
  const bos = id('bos');
  const bosText = tokens[bos ?? -1];
  const model = metadata.get('tokenizer.ggml.model');
  const pre = model === 'gpt2' ? preTokenizer(metadata, path) : null;
  if (model !== 'gpt2' && model !== 'llama' && model !== 'gemma4')
    throw new ConvertError(`${path}: tokenizer.ggml.model must be gpt2, llama or gemma4, got ${String(model)}`);
  // llama.cpp's default: files of Llama 3 leave the flag out and expect a begin token.
  const addBos = flag('add_bos_token', pre === null || pre.isLlama === true);
  const merges =
    model === 'llama' ? mergesOfScores(tokens, types, list('scores').map(Number)) : list('merges').map(String);
  const parts =
    pre === null
      ? sentencePieceBpe(tokens, types, merges, flag('add_space_prefix', model === 'llama'))
      : byteLevelBpe(tokens, merges, pre);
  const json = {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: addedTokens(tokens, types),
    ...parts,
    post_processor: addBos && bos !== null && bosText !== undefined ? bosTemplate(bosText, bos) : null,
  };
  // A token that also stands for unknown text may occur inside an answer, so it does not end one.
  const known = tokens.flatMap((text, index) =>
    text === RESULT || (types[index] === TOKEN_TYPE.control && END_TOKENS.includes(text) && index !== id('unknown'))
      ? [index]
      : [],
  );
  const eos = [id('eos'), id('eot'), id('eom'), ...known].filter((value) => value !== null);
  return {
    json: JSON.stringify(json),
    chatTemplate: typeof template === 'string' ? template : null,
    bosToken: bos,
    eosTokens: [...new Set(eos)],
  };
}

function addedTokens(tokens: string[], types: number[]): object[] {
  return tokens.flatMap((content, id) => {
    const type = types[id];
    const special = type === TOKEN_TYPE.control || type === TOKEN_TYPE.unknown;
    if (!special && type !== TOKEN_TYPE.userDefined) return [];
    return [{ id, content, single_word: false, lstrip: false, rstrip: false, normalized: false, special }];
  });
}

/** Files without the key are rejected: they may be of any model, and a different split gives different tokens. */
function preTokenizer(metadata: Metadata, path: string): PreTokenizer {
  const pre = metadata.get('tokenizer.ggml.pre') ?? 'nothing';
  const found = PRE_TOKENIZERS.get(String(pre));
  if (found !== undefined) return found;
  const rule = `must be one of ${[...PRE_TOKENIZERS.keys()].join(', ')}, got ${String(pre)}`;
  throw new ConvertError(`${path}: tokenizer.ggml.pre ${rule}`);
}

function byteLevelBpe(tokens: string[], merges: string[], { step, isLlama = false, composes }: PreTokenizer): object {
  return {
    normalizer: composes ? { type: 'NFC' } : null,
    pre_tokenizer: step,
    decoder: byteLevel(true),
    model: bpeModel(tokens, merges, {
      ignore_merges: isLlama,
      unk_token: null,
      byte_fallback: false,
      fuse_unk: false,
    }),
  };
}

/**
 * The merges of SentencePiece BPE, as transformers writes them for Llama 2: all splits of a piece into two. Their
 * order is the rank (score) of the piece, then the ranks of the two parts.
 */
function mergesOfScores(tokens: string[], types: number[], scores: number[]): string[] {
  const ids = new Map(tokens.map((token, index) => [token, index]));
  const merges: { text: string; score: number; leftId: number; rightId: number }[] = [];
  tokens.forEach((token, index) => {
    if (types[index] !== 1) return;
    const characters = Array.from(token);
    for (let cut = 1; cut < characters.length; cut++) {
      const left = characters.slice(0, cut).join('');
      const right = characters.slice(cut).join('');
      const leftId = ids.get(left);
      const rightId = ids.get(right);
      if (leftId === undefined || rightId === undefined) continue;
      merges.push({ text: `${left} ${right}`, score: scores[index] ?? 0, leftId, rightId });
    }
  });
  merges.sort((a, b) => b.score - a.score || a.leftId - b.leftId || a.rightId - b.rightId);
  return merges.map(({ text }) => text);
}

function sentencePieceBpe(tokens: string[], types: number[], merges: string[], addSpacePrefix: boolean): object {
  const replaceSpace = { type: 'Replace', pattern: { String: ' ' }, content: '▁' };
  const strip = { type: 'Strip', content: ' ', start: 1, stop: 0 };
  return {
    normalizer: {
      type: 'Sequence',
      normalizers: [...(addSpacePrefix ? [{ type: 'Prepend', prepend: '▁' }] : []), replaceSpace],
    },
    pre_tokenizer: null,
    decoder: {
      type: 'Sequence',
      decoders: [
        { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
        { type: 'ByteFallback' },
        { type: 'Fuse' },
        ...(addSpacePrefix ? [strip] : []),
      ],
    },
    model: bpeModel(tokens, merges, {
      ignore_merges: false,
      unk_token: tokens[types.indexOf(TOKEN_TYPE.unknown)] ?? null,
      byte_fallback: types.includes(TOKEN_TYPE.byte),
      fuse_unk: true,
    }),
  };
}

function bpeModel(tokens: string[], merges: string[], flags: object): object {
  return {
    type: 'BPE',
    dropout: null,
    continuing_subword_prefix: null,
    end_of_word_suffix: null,
    ...flags,
    vocab: Object.fromEntries(tokens.map((token, index) => [token, index])),
    merges,
  };
}

function bosTemplate(content: string, id: number): object {
  const bos = { SpecialToken: { id: content, type_id: 0 } };
  const [first, second] = ['A', 'B'].map((text) => ({ Sequence: { id: text, type_id: 0 } }));
  return {
    type: 'TemplateProcessing',
    single: [bos, first],
    pair: [bos, first, second],
    special_tokens: { [content]: { id: content, ids: [id], tokens: [content] } },
  };
}

function listOf(metadata: Metadata, key: string, path: string): GgufValue[] {
  const value = metadata.get(key);
  if (Array.isArray(value)) return value;
  const got = value === undefined ? 'nothing' : JSON.stringify(value).slice(0, 60);
  throw new ConvertError(`${path}: metadata ${key} must be a list, got ${got}`);
}
