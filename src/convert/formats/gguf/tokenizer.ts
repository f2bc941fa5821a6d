/** Turns the tokenizer of a GGUF file (keys tokenizer.ggml.*) into a tokenizer.json. */
import { ConvertError } from '../../conversion-error.js';
import type { SourceTokenizer } from '../../source.js';
import { byteLevel, PRE_TOKENIZERS, type PreTokenizer } from './pre-tokenizers.js';
import type { GgufValue } from './reader.js';

/** Values of tokenizer.ggml.token_type. */
const TOKEN_TYPE = { unknown: 2, control: 3, userDefined: 4, byte: 6 } as const;

/** Texts of tokens that end a turn or a text, as in llama.cpp; many files name only one of several. */
const END_TOKENS = ['<|eot_id|>', '<|eom_id|>', '<|im_end|>', '<|end|>', '<|endoftext|>', '<|end_of_text|>'];

type Metadata = ReadonlyMap<string, GgufValue>;

/** Throws ConvertError if tokenizer.json has no form for this kind of tokenizer. */
export function ggufTokenizer(metadata: Metadata, path: string): SourceTokenizer {
  const model = metadata.get('tokenizer.ggml.model');
  const tokens = list(metadata, 'tokenizer.ggml.tokens', path).map(String);
  const typeKey = 'tokenizer.ggml.token_type';
  const types = metadata.has(typeKey) ? list(metadata, typeKey, path).map(Number) : tokens.map(() => 1);
  const template = metadata.get('tokenizer.chat_template');
  const id = (key: string): number | null => {
    const value = metadata.get(`tokenizer.ggml.${key}_token_id`);
    return typeof value === 'number' && Number.isInteger(value) && value >= 0 && value < tokens.length ? value : null;
  };
  const flag = (key: string, fallback: boolean): boolean =>
    (metadata.get(`tokenizer.ggml.${key}`) as boolean | undefined) ?? fallback;
  const bos = id('bos');
  const bosText = tokens[bos ?? -1];
  let parts: object;
  let addBos: boolean;
  if (model === 'gpt2') {
    const pre = preTokenizer(metadata, path);
    // llama.cpp's default: files of Llama 3 leave the flag out and expect a begin token.
    addBos = flag('add_bos_token', pre.addsBos);
    parts = byteLevelBpe(tokens, list(metadata, 'tokenizer.ggml.merges', path).map(String), pre);
  } else if (model === 'llama') {
    addBos = flag('add_bos_token', true);
    const scores = list(metadata, 'tokenizer.ggml.scores', path).map(Number);
    parts = sentencePieceBpe(tokens, types, scores, flag('add_space_prefix', true));
  } else {
    const rule = `tokenizer.ggml.model must be gpt2 or llama, got ${String(model)}`;
    throw new ConvertError(`${path}: ${rule}`);
  }
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
    types[index] === TOKEN_TYPE.control && END_TOKENS.includes(text) && index !== id('unknown') ? [index] : [],
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
  const pre = metadata.get('tokenizer.ggml.pre');
  const found = typeof pre === 'string' ? PRE_TOKENIZERS.get(pre) : undefined;
  if (found === undefined)
    throw new ConvertError(
      `${path}: tokenizer.ggml.pre must be one of ${[...PRE_TOKENIZERS.keys()].join(', ')}, got ${pre === undefined ? 'nothing' : String(pre)}`,
    );
  return found;
}

function byteLevelBpe(tokens: string[], merges: string[], pre: PreTokenizer): object {
  return {
    normalizer: pre.composes ? { type: 'NFC' } : null,
    pre_tokenizer: pre.step,
    decoder: byteLevel(true),
    model: bpeModel(tokens, merges, {
      ignore_merges: pre.ignoresMerges,
      unk_token: null,
      byte_fallback: false,
      fuse_unk: false,
    }),
  };
}

/**
 * SentencePiece BPE as transformers writes it for Llama 2. The merges are all splits of a piece into two pieces, by
 * the rank (score) of the piece, then by the ranks of the two parts.
 */
function sentencePieceBpe(tokens: string[], types: number[], scores: number[], addSpacePrefix: boolean): object {
  const ids = new Map(tokens.map((token, index) => [token, index]));
  const merges: { left: string; right: string; score: number; leftId: number; rightId: number }[] = [];
  tokens.forEach((token, index) => {
    if (types[index] !== 1) return;
    const characters = Array.from(token);
    for (let cut = 1; cut < characters.length; cut++) {
      const left = characters.slice(0, cut).join('');
      const right = characters.slice(cut).join('');
      const leftId = ids.get(left);
      const rightId = ids.get(right);
      if (leftId === undefined || rightId === undefined) continue;
      merges.push({ left, right, score: scores[index] ?? 0, leftId, rightId });
    }
  });
  merges.sort((a, b) => b.score - a.score || a.leftId - b.leftId || a.rightId - b.rightId);
  const unknown = types.indexOf(TOKEN_TYPE.unknown);
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
    model: bpeModel(
      tokens,
      merges.map(({ left, right }) => `${left} ${right}`),
      {
        ignore_merges: false,
        unk_token: tokens[unknown] ?? null,
        byte_fallback: types.includes(TOKEN_TYPE.byte),
        fuse_unk: true,
      },
    ),
  };
}

interface BpeFlags {
  ignore_merges: boolean;
  unk_token: string | null;
  byte_fallback: boolean;
  fuse_unk: boolean;
}

function bpeModel(tokens: string[], merges: string[], flags: BpeFlags): object {
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
  return {
    type: 'TemplateProcessing',
    single: [{ SpecialToken: { id: content, type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }],
    pair: [
      { SpecialToken: { id: content, type_id: 0 } },
      { Sequence: { id: 'A', type_id: 0 } },
      { Sequence: { id: 'B', type_id: 0 } },
    ],
    special_tokens: { [content]: { id: content, ids: [id], tokens: [content] } },
  };
}

function list(metadata: Metadata, key: string, path: string): GgufValue[] {
  const value = metadata.get(key);
  if (!Array.isArray(value))
    throw new ConvertError(
      `${path}: metadata ${key} must be a list, got ${value === undefined ? 'nothing' : JSON.stringify(value).slice(0, 60)}`,
    );
  return value;
}
