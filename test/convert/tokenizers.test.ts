/** Tokenizers of both formats, and their checks against the rows of the embedding. */
import { rmSync, writeFileSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { Tokenizer } from '@huggingface/tokenizers';
import { checkTokenizer } from '../../src/convert/check-tokenizer.js';
import { ggufTokenizer, PRE_TOKENIZERS } from '../../src/convert/formats/gguf/tokenizer.js';
import type { GgufValue } from '../../src/convert/formats/gguf/reader.js';
import { readTokenizer } from '../../src/convert/formats/hf/tokenizer.js';
import { TextTokenizer } from '../../src/gateway/text/tokenizer.js';
import { ggufMetadata, SHAPE, tinyVocabulary, tokenizerJson } from './tiny.js';

const { tokens, merges } = tinyVocabulary();

/** The tokenizer of the tiny model's file with more metadata; names stand below `tokenizer.ggml.`. */
function ofFile(more: Readonly<Record<string, GgufValue | undefined>> = {}, template?: string) {
  const metadata = new Map<string, GgufValue>(Object.entries(ggufMetadata()));
  for (const [name, value] of Object.entries(more))
    if (value !== undefined) metadata.set(`tokenizer.ggml.${name}`, value);
  if (template !== undefined) metadata.set('tokenizer.chat_template', template);
  return ggufTokenizer(metadata, 'tiny.gguf');
}

const textOf = ({ json }: { json: string }, rows?: number) => new TextTokenizer(JSON.parse(json) as object, rows);

void t.test('the tokenizer of a GGUF file works', async (t) => {
  const found = ofFile();
  const text = textOf(found);
  const ids = text.encode('hello wor12</s>', true);
  t.equal(ids.map((id) => tokens[id]).join(' '), 'hello Ġw or 1 2 </s>');
  t.equal(text.decode(ids), 'hello wor12');
  t.match(found, { bosToken: 0, eosTokens: [1], chatTemplate: '{{ messages[0].content }}' });
});

void t.test("a begin token is added as in llama.cpp: by the file's flag, else by its pre-tokenizer", async (t) => {
  for (const [pre, add_bos_token, begins] of [
    ['llama-bpe', undefined, true],
    ['llama-bpe', false, false],
    ['smollm', undefined, false],
    ['gpt-2', undefined, false],
    ['gpt-2', true, true],
  ] as const) {
    const [first] = textOf(ofFile({ pre, add_bos_token })).encode('hello', true);
    t.equal(first === 0, begins, `${pre} ${add_bos_token}`);
  }
});

const bytes = Array.from({ length: 256 }, (_, i) => `<0x${i.toString(16).toUpperCase().padStart(2, '0')}>`);

void t.test('a SentencePiece tokenizer of a GGUF file works', async (t) => {
  // Later pieces have lower scores: "he" merges before "el", "▁he" before "hel".
  const pieces = ['<unk>', '<s>', ...bytes, ...['▁', 'h', 'e', 'l', 'o'], ...['he', 'el', '▁he', 'lo', 'hel']];
  const text = textOf(
    ofFile({
      model: 'llama',
      tokens: pieces,
      scores: pieces.map((_, i) => (i < 263 ? 0 : 262 - i)),
      token_type: pieces.map((_, i) => (i === 0 ? 2 : i === 1 ? 3 : i < 258 ? 6 : 1)),
      bos_token_id: 1,
    }),
  );
  const ids = text.encode('hello é', true);
  t.equal(ids.map((id) => pieces[id]).join(' '), '<s> ▁he l lo ▁ <0xC3> <0xA9>');
  t.equal(text.decode(ids), 'hello é');
});

void t.test('a file of Gemma 4 has merges, no space in front, and shows the tokens around a call', async (t) => {
  const marks = ['<bos>', '<turn|>', '<|tool_call>', '<tool_call|>', '<|"|>', '<|tool_response>'];
  const pieces = ['<unk>', ...marks, ...bytes, ...['▁', 'h', 'e', 'l', 'o', 'he', 'el', '▁he', '\n', '\n\n']];
  const found = ofFile({
    model: 'gemma4',
    tokens: pieces,
    merges: ['e l', 'h e', '▁ he', '\n \n'],
    token_type: pieces.map((_, i) => (i === 0 ? 2 : i < 3 ? 3 : i < 7 ? 4 : i < 263 ? 6 : 1)),
    ...{ bos_token_id: 1, eos_token_id: 2, add_bos_token: true, add_space_prefix: false },
  });
  t.match(found, { bosToken: 1, eosTokens: [2, 6] });
  const text = textOf(found);
  const ids = text.encode('hello he\n\n<|tool_call>é', true);
  t.equal(ids.map((id) => pieces[id]).join(' '), '<bos> h el l o ▁he \n\n <|tool_call> <0xC3> <0xA9>');
  t.equal(text.decode(ids), 'hello he\n\n<|tool_call>é');
});

void t.test('a GGUF file names its end tokens, or has some of known texts', async (t) => {
  // Renames characters of the vocabulary; all except one become control tokens.
  const names = ['<|eot_id|>', '<|eom_id|>', '<|im_end|>', '<|end|>', '<|endoftext|>', '<|end_of_text|>', '<|end|>'];
  const renamed = {
    tokens: tokens.map((token, id) => names[id - 100] ?? token),
    token_type: tokens.map((_, id) => (id < 2 || (id >= 100 && id < 106) ? 3 : 1)),
  };
  for (const [metadata, bosToken, eosTokens] of [
    [renamed, 0, [1, 100, 101, 102, 103, 104, 105]],
    // The token for unknown text does not end an answer.
    [{ ...renamed, eot_token_id: 102, unknown_token_id: 104 }, 0, [1, 102, 100, 101, 103, 105]],
    [{ eos_token_id: 1.5, bos_token_id: 0.5 }, null, []],
    [{ eos_token_id: -1, bos_token_id: -1 }, null, []],
  ] as const)
    t.match(ofFile(metadata), { bosToken, eosTokens });
});

/** Reads a folder with these files, in JSON. */
function ofFolder(dir: string, files: Readonly<Record<string, unknown>>, config: Record<string, unknown> = {}) {
  const vocab = Object.fromEntries(tokens.map((token, id) => [token, id]));
  const added_tokens = [{ id: 9, content: '<|eot_id|>' }];
  const json = tokenizerJson({ model: { type: 'BPE', vocab, merges }, added_tokens });
  for (const [name, content] of Object.entries({ tokenizer: json, ...files }))
    writeFileSync(path.join(dir, `${name}.json`), JSON.stringify(content));
  const found = readTokenizer(dir, config);
  for (const name of Object.keys(files)) rmSync(path.join(dir, `${name}.json`));
  return found;
}

void t.test('the end tokens of a folder begin with the token that templates use', async (t) => {
  const dir = t.testdir();
  const generation_config = { bos_token_id: 3, eos_token_id: [1, 7] };
  const config = { bos_token_id: 0, eos_token_id: 1 };
  const byText = { bos_token: '</s>', eos_token: '<|eot_id|>' };
  const byContent = { bos_token: null, eos_token: { content: '<|eot_id|>' } };
  for (const [files, own, bosToken, eosTokens] of [
    [{}, config, 0, [1]],
    [{ generation_config }, config, 3, [1, 7]],
    [{ generation_config, tokenizer_config: byText }, config, 1, [9, 1, 7]],
    [{ generation_config, tokenizer_config: byContent }, config, 3, [9, 1, 7]],
    [{ generation_config, tokenizer_config: { eos_token: 'no such token' } }, config, 3, [1, 7]],
    [{}, { bos_token_id: null, eos_token_id: null }, null, []],
    [{}, { eos_token_id: [1, 1.5, -1, 1e300], bos_token_id: 0.5 }, null, [1]],
    [{}, { eos_token_id: SHAPE.vocab, bos_token_id: -1 }, null, [SHAPE.vocab]],
  ] as const) {
    const found = ofFolder(dir, files, own);
    t.strictSame([found.bosToken, found.eosTokens], [bosToken, eosTokens]);
  }
});

void t.test('a Unigram tokenizer of a folder works', async (t) => {
  const pieces = ['<unk>', '<s>', '</s>', '▁', 'h', 'e', 'l', 'o', '▁he', 'llo', 'hell', '▁hello', 'w'];
  const metaspace = { type: 'Metaspace', replacement: '▁', prepend_scheme: 'always' };
  const tokenizer = tokenizerJson({
    added_tokens: pieces.slice(0, 3).map((content, id) => ({ id, content, special: true, normalized: false })),
    pre_tokenizer: metaspace,
    decoder: metaspace,
    model: { type: 'Unigram', unk_id: 0, vocab: pieces.map((piece, id) => [piece, id < 3 ? 0 : -id]) },
  });
  const tokenizer_config = { bos_token: '<s>', eos_token: '</s>' };
  const found = ofFolder(t.testdir(), { tokenizer, tokenizer_config }, { eos_token_id: 1 });
  t.match(found, { bosToken: 1, eosTokens: [2, 1] });
  const text = textOf(found);
  const ids = text.encode('hello he', true);
  t.equal(ids.map((id) => pieces[id]).join(' '), '▁hello ▁he');
  t.equal(text.decode(ids), 'hello he');
  t.equal(text.spelt(8), ' he');
  t.equal(text.vocabulary, pieces.length);
});

void t.test('the chat template is a file, a text or the default of a list', async (t) => {
  const dir = t.testdir();
  const templateOf = (chat_template: unknown) => ofFolder(dir, { tokenizer_config: { chat_template } }).chatTemplate;
  const named = (...names: string[]) => names.map((name) => ({ name, template: `of ${name}` }));
  t.equal(templateOf('plain'), 'plain');
  t.equal(templateOf(named('tool_use', 'default', 'rag')), 'of default');
  t.equal(templateOf(named('tool_use')), 'of tool_use');
  for (const template of [named('tool_use', 'rag'), [], null, undefined, [{ name: 'default' }]])
    t.equal(templateOf(template), null, JSON.stringify(template));
  writeFileSync(path.join(dir, 'chat_template.jinja'), 'of the file');
  t.equal(templateOf('plain'), 'of the file');
});

void t.test('tokens beyond the embedding: added tokens are a warning, tokens of prompts an error', async (t) => {
  const padded = (more: Record<string, GgufValue> = {}, template?: string, type = 3) => {
    const token_type = [...tokens.map((_, i) => (i < 2 ? 3 : 1)), type];
    return ofFile({ tokens: [...tokens, '<pad>'], token_type, ...more }, template);
  };
  const rule = `the tokenizer's ids must be below the embedding's 264 rows, got "<pad>" (264)`;
  const warnings = checkTokenizer(padded(), SHAPE.vocab);
  t.strictSame(warnings, [`${rule}; prompts that hold one will be rejected`]);
  const text = textOf(padded(), SHAPE.vocab);
  t.equal(text.vocabulary, 264, 'the rows of the embedding bound the vocabulary');
  t.strictSame(text.encode('<pad>', false), [264]);
  const message = `${rule}, which ordinary prompts hold`;
  for (const [name, tokenizer] of Object.entries({
    template: padded({}, '<pad>{{ messages[0].content }}'),
    bos: padded({ bos_token_id: 264, add_bos_token: true }),
    eos: padded({ eos_token_id: 264 }),
    word: padded({}, undefined, 1),
  }))
    t.throws(() => checkTokenizer(tokenizer, SHAPE.vocab), { isUsage: false, message }, name);
});

// The pre-tokenizers of GGUF files against the pieces of Python's `tokenizers` (test/golden/architectures).

/** The part of the library that is used; its own types do not resolve under Node's module rules. */
interface Library {
  readonly pre_tokenizer: { pre_tokenize(text: string): string[] };
}
const Library = Tokenizer as unknown as new (json: object, config: object) => Library;

const file = fileURLToPath(new URL('../../../test/golden/pre-tokenizers.json', import.meta.url));
const { texts, ...golden } = JSON.parse(readFileSync(file, 'utf8')) as { texts: string[] } & Record<string, string[][]>;

void t.test('every pre-tokenizer has golden pieces', async (t) => {
  t.strictSame(Object.keys(golden).sort(), [...PRE_TOKENIZERS.keys()].sort());
});

for (const [name, { step }] of PRE_TOKENIZERS)
  void t.test(name, async (t) => {
    const { pre_tokenizer } = new Library(tokenizerJson({ pre_tokenizer: step }), {});
    for (const [index, text] of texts.entries())
      t.strictSame(pre_tokenizer.pre_tokenize(text), golden[name]?.[index], text);
  });
