/** The whole conversion: the same model from every format gives the same folder; bad input gives one clear error. */
import { existsSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { PassThrough, Writable } from 'node:stream';
import { gunzipSync } from 'node:zlib';
import t from 'tap';
import { exitCode } from '../../src/cli.js';
import { packageRoot } from '../../src/config.js';
import { convert } from '../../src/convert/convert.js';
import { ConvertError } from '../../src/convert/errors.js';
import { convertCommand, describe } from '../../src/convert/command.js';
import { inspect } from '../../src/convert/inspect.js';
import type { ConvertOptions } from '../../src/convert/options.js';
import { loadServedModel } from '../../src/api/served-model.js';
import { loadManifest } from '../../src/model/manifest-io.js';
import { externalTensors } from '../../src/model/onnx-weights.js';
import { TextTokenizer } from '../../src/text/tokenizer.js';
import {
  CONFIG,
  gguf,
  ggufMetadata,
  LAYER_SHAPES,
  random,
  safetensors,
  SHAPE,
  tinyVocabulary,
  tinyWeights,
  tokenizerJson,
  weight,
  writeFolder,
  type GgufMetadata,
  type Weight,
  type Weights,
} from './tiny.js';

const OPTIONS: Omit<ConvertOptions, 'source' | 'out'> = {
  exits: [1, 3],
  kernels: ['fp32'],
  compress: false,
  force: false,
};

const LLAMA3 = {
  ...{ rope_type: 'llama3', factor: 8, low_freq_factor: 1 },
  ...{ high_freq_factor: 4, original_max_position_embeddings: 16 },
};

function run(dir: string, source: string, options: Partial<ConvertOptions> = {}) {
  return convert({ ...OPTIONS, source, out: path.join(dir, 'out'), name: 'tiny', ...options });
}

function writeGguf(dir: string, weights: Weights, metadata = ggufMetadata(), half = false): string {
  const file = path.join(dir, 'tiny.gguf');
  writeFileSync(file, gguf(weights, metadata, half));
  return file;
}

/** The beginning of a GGUF file. @param rest integers after it, each with its bytes */
function damagedGguf(
  tensors: number,
  keys: number,
  rest: readonly (readonly [value: number, bytes: 1 | 4 | 8])[],
): Buffer {
  const head = [
    [0x46554747, 4],
    [3, 4],
    [tensors, 8],
    [keys, 8],
  ] as const;
  return Buffer.concat(
    [...head, ...rest].map(([value, bytes]) => {
      const part = Buffer.alloc(8);
      part.writeBigUInt64LE(BigInt(value));
      return part.subarray(0, bytes);
    }),
  );
}

/** A key whose value is an array of one array, and so on. */
function nestedGguf(depth: number): Buffer {
  const arrays = Array.from(
    { length: depth },
    () =>
      [
        [9, 4],
        [1, 8],
      ] as const,
  ).flat();
  return damagedGguf(0, 1, [[1, 8], [0x6b, 1], [9, 4], ...arrays, [0, 4], [0, 8]]);
}

/** A tensor named t that claims the most dimensions, with some of them in the file. */
function manyDimensions(): Buffer {
  const head = damagedGguf(1, 0, [
    [1, 8],
    [0x74, 1],
    [0xffffffff, 4],
  ]);
  return Buffer.concat([head, Buffer.alloc(8 * 1000)]);
}

/** Graphs and weights of a folder by file name. */
function content(dir: string): Map<string, Buffer> {
  const names = readdirSync(dir).filter((name) => /\.(onnx|bin)$/.test(name));
  return new Map(names.map((name) => [name, readFileSync(path.join(dir, name))]));
}

/** The floats of a stored tensor. */
function floats(dir: string, graph: string, name: string): Float32Array {
  const tensor = externalTensors(path.join(dir, graph)).find((entry) => entry.name === name);
  if (!tensor) throw new Error(`${graph} has no ${name}`);
  const bytes = readFileSync(path.join(dir, tensor.location)).subarray(tensor.offset, tensor.offset + tensor.length);
  return new Float32Array(new Uint8Array(bytes).buffer);
}

void t.test('GGUF and sharded safetensors of one model give the same graphs and weights', async (t) => {
  const weights = tinyWeights(1);
  const [a, b, c, d] = [t.testdir(), `${t.testdir()}/b`, `${t.testdir()}/c`, `${t.testdir()}/d`];
  await run(a, writeFolder(path.join(a, 'hf'), weights), { out: path.join(a, 'plain') });
  const expected = content(path.join(a, 'plain'));
  t.equal(expected.size, 7, 'embed, head, select, argmax, two stages, one weight file');

  await run(a, writeFolder(path.join(a, 'sharded'), weights, { shards: 3, dtype: 'BF16' }), { out: b });
  await run(a, writeFolder(path.join(a, 'f16'), weights, { dtype: 'F16' }), { out: c });
  await run(a, writeGguf(a, weights, ggufMetadata(), true), { out: d });
  for (const folder of [b, c, d]) t.strictSame(content(folder), expected, folder);

  // And the weights are the source's: qkv is q (with attention's scale), k and v on top of each other, transposed for
  // MatMul.
  const stored = floats(d, 'stage-1.fp32.onnx', 'layers.2.qkv.weight');
  const rows = ['q', 'k', 'v'].map(
    (part) => weights.get(`model.layers.2.self_attn.${part}_proj.weight`)?.data ?? new Float32Array(),
  );
  const stacked = rows.flatMap((data, part) =>
    Array.from(data, (value) => (part === 0 ? value * SHAPE.headDim ** -0.5 : value)),
  );
  const n = stacked.length / SHAPE.hidden;
  t.strictSame(
    Array.from({ length: stacked.length }, (_, i) => stored[(i % SHAPE.hidden) * n + Math.floor(i / SHAPE.hidden)]),
    stacked,
  );
});

void t.test('stages, exit blocks and shared tensors are laid out as the manifest says', async (t) => {
  const dir = t.testdir();
  const next = random(9);
  const blocks: Weights = new Map([
    ['exits.1.norm.weight', weight(next, [SHAPE.hidden])],
    ...LAYER_SHAPES.map(([name, shape]) => [`exits.1.layers.0.${name}`, weight(next, shape)] as const),
  ]);
  const exitBlocks = path.join(dir, 'blocks.safetensors');
  writeFileSync(exitBlocks, safetensors(blocks));
  const out = path.join(dir, 'out');
  const manifest = await run(dir, writeFolder(path.join(dir, 'hf'), tinyWeights(2)), {
    exits: [1, 3],
    kernels: ['int4', 'w8a8'],
    exitBlocks,
  });
  t.strictSame(
    manifest.exits.map(({ layer, stage, norm, block }) => ({ layer, stage, norm, block: block?.boundary ?? null })),
    [
      { layer: 2, stage: 0, norm: 1, block: 1 },
      { layer: 3, stage: 1, norm: 0, block: null },
    ],
  );
  t.strictSame(
    manifest.stages.map(({ boundary, layers }) => [boundary, layers]),
    [
      [0, 1],
      [1, 2],
    ],
  );
  t.strictSame(
    floats(out, 'head.onnx', 'head.norms').subarray(SHAPE.hidden, 2 * SHAPE.hidden),
    blocks.get('exits.1.norm.weight')?.data,
  );

  const find = (graph: string, name: string) =>
    externalTensors(path.join(out, graph)).find((tensor) => tensor.name === name);
  t.strictSame(
    find('embed.onnx', 'head.weight_q8'),
    find('head.onnx', 'head.weight_q8'),
    'tied tensors are stored once',
  );
  t.ok(find('embed.onnx', 'head.weight_q8'));
  t.strictSame(find('stage-0.int4.onnx', 'rope.cos'), find('exit-2.w8a8.onnx', 'rope.cos'));
  t.ok(find('exit-2.int4.onnx', 'exits.1.layers.0.down.weight_q4'));
  t.strictSame(loadManifest(out), manifest);
  t.equal((await inspect(out)).manifest.name, 'tiny');
});

void t.test("blocks have weight files of their own: other blocks leave the trunk's to the byte", async (t) => {
  const dir = t.testdir();
  const source = writeFolder(path.join(dir, 'hf'), tinyWeights(2));
  const withBlocks = async (seed: number) => {
    const next = random(seed);
    const layer = LAYER_SHAPES.map(([name, shape]) => [`exits.1.layers.0.${name}`, weight(next, shape)] as const);
    // The norm's table is the head's, so it stays.
    const blocks: Weights = new Map([['exits.1.norm.weight', weight(random(1), [SHAPE.hidden])], ...layer]);
    const exitBlocks = path.join(dir, `blocks-${seed}.safetensors`);
    writeFileSync(exitBlocks, safetensors(blocks));
    const out = path.join(dir, `out-${seed}`);
    await run(dir, source, { exits: [1, 3], kernels: ['w8a8', 'int4'], exitBlocks, out });
    return content(out);
  };
  const [one, two] = [await withBlocks(1), await withBlocks(2)];
  const locations = (graph: string) =>
    new Set(externalTensors(path.join(dir, 'out-1', graph)).map(({ name, location }) => `${location} ${name}`));
  t.ok(locations('stage-1.w8a8.onnx').has('weights-000.bin layers.2.down.weight_q8'));
  t.ok(locations('exit-2.w8a8.onnx').has('weights-001.bin exits.1.layers.0.down.weight_q8'));
  t.ok(locations('exit-2.int4.onnx').has('weights-000.bin rope.cos'), "what both read is the trunk's");
  const changed = [...one.keys()].filter((name) => !one.get(name)?.equals(two.get(name) ?? Buffer.alloc(0)));
  t.strictSame(changed, ['weights-001.bin']);
});

void t.test('the same input gives the same bytes, compressed or not', async (t) => {
  const dir = t.testdir();
  const source = writeFolder(path.join(dir, 'hf'), tinyWeights(3));
  const [one, two, raw] = ['one', 'two', 'raw'].map((name) => path.join(dir, name)) as [string, string, string];
  const manifest = await run(dir, source, { out: one, kernels: ['int4'], compress: true });
  t.strictSame(await run(dir, source, { out: two, kernels: ['int4'], compress: true }), manifest);
  await run(dir, source, { out: raw, kernels: ['int4'] });
  t.strictSame(
    gunzipSync(readFileSync(path.join(one, 'weights-000.bin.gz'))),
    readFileSync(path.join(raw, 'weights-000.bin')),
    'gunzip restores the file that the graphs name',
  );
});

void t.test('an untied head and attention biases are kept', async (t) => {
  const dir = t.testdir();
  const weights = tinyWeights(4, false);
  const next = random(10);
  for (let i = 0; i < SHAPE.layers; i++)
    for (const [part, size] of [
      ['q', 64],
      ['k', 32],
      ['v', 32],
      ['o', 64],
    ] as const)
      weights.set(`model.layers.${i}.self_attn.${part}_proj.bias`, weight(next, [size]));
  const config = { tie_word_embeddings: false, attention_bias: true };
  const manifest = await run(dir, writeFolder(path.join(dir, 'hf'), weights, { config }));
  t.notOk(manifest.architecture.tiedHead);
  const out = path.join(dir, 'out');
  t.strictSame(floats(out, 'head.onnx', 'head.weight'), weights.get('lm_head.weight')?.data);
  t.strictSame(floats(out, 'embed.onnx', 'embed.weight'), weights.get('model.embed_tokens.weight')?.data);
  t.strictSame(
    floats(out, 'stage-0.fp32.onnx', 'layers.0.qkv.bias').subarray(64, 96),
    weights.get('model.layers.0.self_attn.k_proj.bias')?.data,
  );
});

void t.test('rotary frequencies that files repeat, and a factor of no scaling, change nothing', async (t) => {
  const dir = t.testdir();
  const frequencies = weight(random(1), [SHAPE.headDim / 2]);
  const source = (names: string[]): Weights =>
    new Map([...tinyWeights(1), ...names.map((n) => [n, frequencies] as const)]);
  await run(dir, writeGguf(dir, tinyWeights(1)), { out: path.join(dir, 'plain') });
  const names = ['model.layers.0.self_attn.rotary_emb.inv_freq', 'model.rotary_emb.inv_freq'];
  await run(dir, writeFolder(path.join(dir, 'source'), source(names)), { out: path.join(dir, 'hf') });
  const scaling: GgufMetadata[] = [
    { 'llama.rope.scale_linear': 1 },
    { 'llama.rope.scaling.factor': 0 },
    { 'llama.rope.scaling.factor': 8, 'llama.rope.scaling.type': 'none' },
  ];
  for (const metadata of scaling)
    await run(dir, writeGguf(dir, source(['blk.0.attn_rot_embd']), { ...ggufMetadata(), ...metadata }), {
      force: true,
    });
  for (const name of ['hf', 'out']) t.strictSame(content(path.join(dir, name)), content(path.join(dir, 'plain')), name);
});

void t.test('the tokenizer of a GGUF file works', async (t) => {
  const dir = t.testdir();
  const manifest = await run(dir, writeGguf(dir, tinyWeights(1)));
  const json = JSON.parse(readFileSync(path.join(dir, 'out', manifest.tokenizer), 'utf8')) as {
    model: { vocab: Record<string, number> };
    decoder: null;
  };
  const tokenizer = new TextTokenizer(json);
  const ids = tokenizer.encode('hello wor12</s>', true);
  t.strictSame(
    ids,
    ['hello', 'Ġw', 'or', '1', '2', '</s>'].map((token) => json.model.vocab[token]),
  );
  t.equal(tokenizer.decode(ids), 'hello wor12');
  t.strictSame([manifest.bosToken, manifest.eosTokens, manifest.licence], [0, [1], 'apache-2.0']);
  t.equal(readFileSync(path.join(dir, 'out', manifest.chatTemplate ?? ''), 'utf8'), '{{ messages[0].content }}');
});

void t.test(
  "a begin token comes first where llama.cpp puts one: by the file's flag, else by its pre-tokenizer",
  async (t) => {
    const dir = t.testdir();
    const cases: [metadata: GgufMetadata, begins: boolean][] = [
      [{ 'tokenizer.ggml.pre': 'llama-bpe' }, true],
      [{ 'tokenizer.ggml.pre': 'llama-bpe', 'tokenizer.ggml.add_bos_token': false }, false],
      [{ 'tokenizer.ggml.pre': 'smollm' }, false],
      [{ 'tokenizer.ggml.pre': 'gpt-2' }, false],
      [{ 'tokenizer.ggml.pre': 'gpt-2', 'tokenizer.ggml.add_bos_token': true }, true],
    ];
    for (const [metadata, begins] of cases) {
      await run(dir, writeGguf(dir, tinyWeights(1), { ...ggufMetadata(), ...metadata }), { force: true });
      const { tokenizer } = loadServedModel(path.join(dir, 'out'), null);
      const [first] = tokenizer.encode('hello', true);
      t.equal(first === 0, begins, JSON.stringify(metadata));
    }
  },
);

void t.test('all that ends an answer is found, what templates mean by it first', async (t) => {
  const dir = t.testdir();
  const { tokens, merges } = tinyVocabulary();
  const warnings: string[] = [];
  const ends = async (source: string) => {
    warnings.length = 0;
    const options = { ...OPTIONS, source, out: path.join(dir, 'out'), force: true };
    const manifest = await convert(options, undefined, (text) => warnings.push(text));
    return [manifest.bosToken, manifest.eosTokens];
  };
  const source = writeFolder(path.join(dir, 'hf'), tinyWeights(1));
  writeFileSync(path.join(source, 'chat_template.jinja'), '{{ messages[0].content }}');
  const write = (name: string, json: object) => {
    writeFileSync(path.join(source, name), JSON.stringify(json));
  };
  const vocab = Object.fromEntries(tokens.map((token, id) => [token, id]));
  const added = [{ id: 9, content: '<|eot_id|>' }];
  write('tokenizer.json', tokenizerJson({ model: { type: 'BPE', vocab, merges }, added_tokens: added }));
  t.strictSame(await ends(source), [0, [1]], "the config's");
  write('generation_config.json', { bos_token_id: 3, eos_token_id: [1, 7] });
  t.strictSame(await ends(source), [3, [1, 7]]);
  write('tokenizer_config.json', { bos_token: '</s>', eos_token: '<|eot_id|>' });
  t.strictSame(await ends(source), [1, [9, 1, 7]]);
  write('tokenizer_config.json', { bos_token: null, eos_token: { content: '<|eot_id|>' } });
  t.strictSame(await ends(source), [3, [9, 1, 7]]);
  write('tokenizer_config.json', { eos_token: 'no such token' });
  t.strictSame(await ends(source), [3, [1, 7]]);
  t.strictSame(warnings, []);
  write('generation_config.json', {});
  write('config.json', { ...CONFIG, bos_token_id: null, eos_token_id: null });
  t.strictSame(await ends(source), [null, []]);
  t.match(warnings, [/names no token that ends an answer/]);

  // Characters of the vocabulary renamed, as control tokens but for one.
  const names = ['<|eot_id|>', '<|eom_id|>', '<|im_end|>', '<|end|>', '<|endoftext|>', '<|end_of_text|>', '<|end|>'];
  const file = (metadata: object) => {
    const renamed = tokens.map((token, id) => names[id - 100] ?? token);
    const types = tokens.map((_, id) => (id < 2 || (id >= 100 && id < 106) ? 3 : 1));
    const all = { 'tokenizer.ggml.tokens': renamed, 'tokenizer.ggml.token_type': types, ...metadata };
    return writeGguf(dir, tinyWeights(1), { ...ggufMetadata(), ...all });
  };
  t.strictSame(await ends(file({})), [0, [1, 100, 101, 102, 103, 104, 105]]);
  t.strictSame(
    await ends(file({ 'tokenizer.ggml.eot_token_id': 102, 'tokenizer.ggml.unknown_token_id': 104 })),
    [0, [1, 102, 100, 101, 103, 105]],
    'what stands for unknown text is no end',
  );
});

void t.test('a Unigram tokenizer of a folder works', async (t) => {
  const dir = t.testdir();
  const pieces = ['<unk>', '<s>', '</s>', '▁', 'h', 'e', 'l', 'o', '▁he', 'llo', 'hell', '▁hello', 'w'];
  const metaspace = { type: 'Metaspace', replacement: '▁', prepend_scheme: 'always' };
  const json = {
    added_tokens: pieces.slice(0, 3).map((content, id) => ({ id, content, special: true, normalized: false })),
    normalizer: null,
    pre_tokenizer: metaspace,
    post_processor: null,
    decoder: metaspace,
    model: { type: 'Unigram', unk_id: 0, vocab: pieces.map((piece, id) => [piece, id < 3 ? 0 : -id]) },
  };
  const source = writeFolder(path.join(dir, 'hf'), tinyWeights(1));
  writeFileSync(path.join(source, 'tokenizer.json'), JSON.stringify(json));
  writeFileSync(path.join(source, 'tokenizer_config.json'), '{"bos_token": "<s>", "eos_token": "</s>"}');
  const manifest = await run(dir, source);
  t.strictSame([manifest.bosToken, manifest.eosTokens], [1, [2, 1]]);
  const { tokenizer } = loadServedModel(path.join(dir, 'out'), null);
  const ids = tokenizer.encode('hello he', true);
  t.strictSame(
    ids.map((id) => pieces[id]),
    ['▁hello', '▁he'],
  );
  t.equal(tokenizer.decode(ids), 'hello he');
  t.equal(tokenizer.spelt(8), ' he');
  t.equal(tokenizer.vocabulary, pieces.length);
});

void t.test(
  'a folder has its chat template in a file, as text or as the default of a list, or none, which is told',
  async (t) => {
    const dir = t.testdir();
    const source = writeFolder(path.join(dir, 'hf'), tinyWeights(1));
    const convertWith = async (chat_template: unknown) => {
      writeFileSync(path.join(source, 'tokenizer_config.json'), JSON.stringify({ chat_template }));
      const warnings: string[] = [];
      const options = { ...OPTIONS, source, out: path.join(dir, 'out'), force: true };
      const manifest = await convert(options, undefined, (text) => warnings.push(text));
      const file = manifest.chatTemplate;
      return { template: file && readFileSync(path.join(dir, 'out', file), 'utf8'), warnings };
    };
    const named = (...names: string[]) => names.map((name) => ({ name, template: `of ${name}` }));
    const none = { template: null, warnings: [/^the source has no chat template/] };
    t.strictSame(await convertWith('plain'), { template: 'plain', warnings: [] });
    t.strictSame(await convertWith(named('tool_use', 'default', 'rag')), { template: 'of default', warnings: [] });
    t.strictSame(await convertWith(named('tool_use')), { template: 'of tool_use', warnings: [] });
    for (const template of [named('tool_use', 'rag'), [], null, undefined, [{ name: 'default' }]])
      t.match(await convertWith(template), none, JSON.stringify(template));
    const terminal = new PassThrough();
    await convertCommand({ ...OPTIONS, source, out: path.join(dir, 'printed') }, terminal);
    t.match(String(terminal.read()), /^warning: the source has no chat template.*\n +0% /, 'the command prints it');
    writeFileSync(path.join(source, 'chat_template.jinja'), 'of the file');
    t.strictSame(await convertWith('plain'), { template: 'of the file', warnings: [] });
  },
);

void t.test('a SentencePiece tokenizer of a GGUF file works', async (t) => {
  const dir = t.testdir();
  const bytes = Array.from({ length: 256 }, (_, i) => `<0x${i.toString(16).toUpperCase().padStart(2, '0')}>`);
  // Later pieces have lower scores: "he" merges before "el", "▁he" before "hel".
  const pieces = ['▁', 'h', 'e', 'l', 'o'];
  const merged = ['he', 'el', '▁he', 'lo', 'hel'];
  const tokens = ['<unk>', '<s>', ...bytes, ...pieces, ...merged].slice(0, SHAPE.vocab + 4);
  const metadata = {
    ...ggufMetadata(),
    'tokenizer.ggml.model': 'llama',
    'tokenizer.ggml.tokens': tokens,
    'tokenizer.ggml.scores': tokens.map((_, i) => (i < 263 ? 0 : 262 - i)),
    'tokenizer.ggml.token_type': tokens.map((_, i) => (i === 0 ? 2 : i === 1 ? 3 : i < 258 ? 6 : 1)),
    'tokenizer.ggml.bos_token_id': 1,
    'tokenizer.ggml.eos_token_id': 1,
  };
  const weights = tinyWeights(1);
  weights.set('model.embed_tokens.weight', weight(random(1), [tokens.length, SHAPE.hidden]));
  const manifest = await run(dir, writeGguf(dir, weights, metadata));
  const json: unknown = JSON.parse(readFileSync(path.join(dir, 'out', manifest.tokenizer), 'utf8'));
  const tokenizer = new TextTokenizer(json);
  const ids = tokenizer.encode('hello é', true);
  t.strictSame(
    ids.map((id) => tokens[id]),
    ['<s>', '▁he', 'l', 'lo', '▁', '<0xC3>', '<0xA9>'],
  );
  t.equal(tokenizer.decode(ids), 'hello é');
});

void t.test('tokens beyond the embedding: added ones are warned of, those that prompts hold are refused', async (t) => {
  const dir = t.testdir();
  const { tokens } = tinyVocabulary();
  const convertWith = async (name: string, more: string[], metadata: object, type = 3) => {
    const file = path.join(dir, `${name}.gguf`);
    const all = {
      ...ggufMetadata(),
      'tokenizer.ggml.tokens': [...tokens, ...more],
      'tokenizer.ggml.token_type': [...tokens.map((_, i) => (i < 2 ? 3 : 1)), ...more.map(() => type)],
      ...metadata,
    };
    writeFileSync(file, gguf(tinyWeights(1), all));
    const warnings: string[] = [];
    await convert({ ...OPTIONS, source: file, out: path.join(dir, name) }, undefined, (text) => warnings.push(text));
    return warnings;
  };
  t.strictSame(await convertWith('none', [], {}), []);
  t.strictSame(await convertWith('pad', ['<pad>'], {}), [
    'the tokenizer\'s ids must be below the embedding\'s 264 rows, got "<pad>" (264); prompts that hold one will be refused',
  ]);
  const { tokenizer } = loadServedModel(path.join(dir, 'pad'), null);
  t.equal(tokenizer.vocabulary, 264, 'the embedding says what can be read');
  t.strictSame(tokenizer.encode('<pad>', false), [264]);
  const refused: [name: string, metadata: object, type?: number][] = [
    ['template', { 'tokenizer.chat_template': '<pad>{{ messages[0].content }}' }],
    ['bos', { 'tokenizer.ggml.bos_token_id': 264, 'tokenizer.ggml.add_bos_token': true }],
    ['eos', { 'tokenizer.ggml.eos_token_id': 264 }],
    ['word', {}, 1],
  ];
  for (const [name, metadata, type] of refused)
    await t.rejects(
      convertWith(name, ['<pad>'], metadata, type),
      {
        code: 'bad_source',
        message: /below the embedding's 264 rows, got "<pad>" \(264\), which ordinary prompts hold/,
      },
      name,
    );
  t.strictSame(
    readdirSync(dir)
      .filter((name) => !name.endsWith('.gguf'))
      .sort(),
    ['none', 'pad'],
  );
});

void t.test('what is no id ends no answer, and the manifest can be read', async (t) => {
  const dir = t.testdir();
  const odd = (name: string, eos: number, bos: number) => {
    const ids = { 'tokenizer.ggml.eos_token_id': eos, 'tokenizer.ggml.bos_token_id': bos };
    const file = path.join(dir, `${name}.gguf`);
    writeFileSync(file, gguf(tinyWeights(1), { ...ggufMetadata(), ...ids }));
    return file;
  };
  const folder = (name: string, config: object) => writeFolder(path.join(dir, name), tinyWeights(1), { config });
  for (const [source, eosTokens, isWarned] of [
    [odd('fractions', 1.5, 0.5), [], true],
    [odd('negative', -1, -1), [], true],
    [folder('hf', { eos_token_id: [1, 1.5, -1, 1e300], bos_token_id: 0.5 }), [1], false],
    [folder('none', { eos_token_id: -1, bos_token_id: -1 }), [], true],
    [folder('beyond', { eos_token_id: SHAPE.vocab, bos_token_id: -1 }), [SHAPE.vocab], true],
  ] as const) {
    const out = path.join(dir, 'out');
    const warnings: string[] = [];
    await convert({ ...OPTIONS, source, out, force: true }, undefined, (text) => warnings.push(text));
    t.match(loadManifest(out), { bosToken: null, eosTokens }, source);
    t.equal(
      warnings.some((text) => text.includes('no token that ends an answer')),
      isWarned,
      source,
    );
  }
});

void t.test('bad input gives one clear error and leaves nothing behind', async (t) => {
  const edit = (change: (weights: Weights) => void): Weights => {
    const weights = tinyWeights(1);
    change(weights);
    return weights;
  };
  const folder = (dir: string, weights = tinyWeights(1), config = {}) =>
    writeFolder(path.join(dir, 'hf'), weights, { config });
  const write = (dir: string, name: string, data: string | Buffer): string => {
    const file = path.join(dir, name);
    writeFileSync(file, data);
    return file;
  };
  const file = (dir: string, metadata: object = {}) =>
    writeGguf(dir, tinyWeights(1), { ...ggufMetadata(), ...metadata });
  const bytes = () => gguf(tinyWeights(1), ggufMetadata());

  type Case = [
    name: string,
    code: string,
    message: RegExp,
    source: (dir: string) => string,
    options?: Partial<ConvertOptions>,
  ];
  const cases: Case[] = [
    ['no such source', 'bad_source', /does not exist/, (dir) => path.join(dir, 'nothing')],
    [
      'another architecture in a folder',
      'unsupported_architecture',
      /LlamaForCausalLM, got MistralForCausalLM/,
      (dir) => folder(dir, undefined, { architectures: ['MistralForCausalLM'] }),
    ],
    [
      'another architecture in a GGUF',
      'unsupported_architecture',
      /must be llama, got "qwen2"/,
      (dir) => file(dir, { 'general.architecture': 'qwen2' }),
    ],
    [
      'a missing tensor in a folder',
      'missing_tensor',
      /layers\.1\.mlp\.up_proj/,
      (dir) =>
        folder(
          dir,
          edit((w) => w.delete('model.layers.1.mlp.up_proj.weight')),
        ),
    ],
    [
      'a missing tensor in a GGUF',
      'missing_tensor',
      /layers\.0\.self_attn\.k_proj/,
      (dir) =>
        writeGguf(
          dir,
          edit((w) => w.delete('model.layers.0.self_attn.k_proj.weight')),
        ),
    ],
    [
      'a wrong shape',
      'wrong_shape',
      /model\.norm\.weight must have shape \[64\], got \[32\]/,
      (dir) =>
        folder(
          dir,
          edit((w) => w.set('model.norm.weight', weight(random(1), [32]))),
        ),
    ],
    [
      'NaN',
      'not_finite',
      /down_proj\.weight holds NaN at index 5/,
      (dir) =>
        folder(
          dir,
          edit((w) => w.get('model.layers.2.mlp.down_proj.weight')?.data.fill(NaN, 5, 6)),
        ),
    ],
    [
      'infinity in a GGUF',
      'not_finite',
      /blk\.2\.ffn_down\.weight holds Infinity at index 7/,
      (dir) =>
        writeGguf(
          dir,
          edit((w) => w.get('model.layers.2.mlp.down_proj.weight')?.data.fill(Infinity, 7, 8)),
        ),
    ],
    [
      'a GGUF cut off in the weights',
      'truncated_file',
      /is truncated/,
      (dir) => write(dir, 'x.gguf', bytes().subarray(0, -5000)),
    ],
    [
      'a GGUF cut off in the header',
      'truncated_file',
      /is truncated/,
      (dir) => write(dir, 'x.gguf', bytes().subarray(0, 3000)),
    ],
    [
      'a part of a GGUF in several files',
      'bad_source',
      /must be a whole model, got part 2 of 3; llama-gguf-split --merge joins them/,
      (dir) => file(dir, { 'split.no': 1, 'split.count': 3 }),
    ],
    ...[0, 0.5, 'x'].map((alignment): Case => [
      `a GGUF aligned to ${alignment}`,
      'bad_source',
      /tiny\.gguf: general\.alignment must be a positive integer, got /,
      (dir) => file(dir, { 'general.alignment': alignment }),
    ]),
    ...['null', '[]', '{"x": null}', '{"x": {"dtype": "F32", "shape": [1], "data_offsets": [null, 4]}}'].map(
      (header): Case => [
        `a safetensors header ${header}`,
        'bad_source',
        /model\.safetensors is not a safetensors file: its (header is no object|entry x must have dtype)/,
        (dir) => {
          const length = Buffer.alloc(8);
          length.writeBigUInt64LE(BigInt(header.length));
          return path.dirname(write(folder(dir), 'model.safetensors', Buffer.concat([length, Buffer.from(header)])));
        },
      ],
    ),
    ...['{"weight_map": {"x": 5}}', '{"weight_map": [null]}', '{}'].map((index): Case => [
      `an index ${index}`,
      'bad_source',
      /model\.safetensors\.index\.json must have a weight_map of file names by tensor/,
      (dir) => path.dirname(write(folder(dir), 'model.safetensors.index.json', index)),
    ]),
    ...(
      [
        ['llama.rope.freq_base', NaN, 'ropeTheta'],
        ['llama.rope.freq_base', 0, 'ropeTheta'],
        ['llama.attention.layer_norm_rms_epsilon', -1, 'normEps'],
      ] as const
    ).map(([key, value, name]): Case => [
      `${key} ${value}`,
      'unsupported_architecture',
      new RegExp(`${name} must be above 0, got ${value}`),
      (dir) => file(dir, { [key]: value }),
    ]),
    [
      'a rope scaling that divides by 0',
      'unsupported_architecture',
      /factor must be above 0, got 0/,
      (dir) => folder(dir, undefined, { rope_scaling: { ...LLAMA3, factor: 0 } }),
    ],
    [
      'exit blocks that are a folder',
      'bad_source',
      /^cannot read \S+: it is a folder$/,
      folder,
      { exitBlocks: packageRoot },
    ],
    ['no GGUF', 'bad_source', /is not a GGUF file/, (dir) => write(dir, 'x.gguf', 'something else entirely')],
    [
      'a GGML type without a decoder',
      'unknown_dtype',
      /output_norm\.weight has ggml type 10/,
      (dir) => write(dir, 'x.gguf', gguf(tinyWeights(1), ggufMetadata(), false, { 'output_norm.weight': 10 })),
    ],
    [
      'a cut off safetensors',
      'truncated_file',
      /is truncated/,
      (dir) => {
        const source = folder(dir);
        const name = path.join(source, 'model.safetensors');
        writeFileSync(name, readFileSync(name).subarray(0, -100));
        return source;
      },
    ],
    [
      'an unknown dtype',
      'unknown_dtype',
      /has dtype F64/,
      (dir) => {
        const source = folder(dir);
        const name = path.join(source, 'model.safetensors');
        writeFileSync(name, readFileSync(name).toString('latin1').replace('"dtype":"F32"', '"dtype":"F64"'), 'latin1');
        return source;
      },
    ],
    [
      'rope scaling of another kind',
      'unsupported_feature',
      /got "yarn"/,
      (dir) => folder(dir, undefined, { rope_scaling: { rope_type: 'yarn', factor: 2 } }),
    ],
    [
      'linear rope scaling by its older name and without a type, which is linear',
      'unsupported_feature',
      /llama\.rope\.scale_linear must be 0 or 1, got 4/,
      (dir) => file(dir, { 'llama.rope.scale_linear': 4 }),
    ],
    [
      'a rope scaling factor without a type, which is linear',
      'unsupported_feature',
      /llama\.rope\.scaling\.factor must be 0 or 1, got 2/,
      (dir) => file(dir, { 'llama.rope.scaling.factor': 2 }),
    ],
    [
      'a bias of the FFN in a GGUF',
      'unsupported_feature',
      /biases only of attention, in every layer\), got blk\.1\.ffn_up\.bias/,
      (dir) =>
        writeGguf(
          dir,
          edit((w) => w.set('blk.1.ffn_up.bias', weight(random(1), [SHAPE.ffn]))),
        ),
    ],
    [
      'a bias of one layer in a GGUF',
      'unsupported_feature',
      /got model\.layers\.2\.self_attn\.o_proj\.bias/,
      (dir) =>
        writeGguf(
          dir,
          edit((w) => w.set('blk.2.attn_output.bias', weight(random(1), [SHAPE.hidden]))),
        ),
    ],
    [
      'biases that the config denies',
      'unsupported_feature',
      /got model\.layers\.0\.self_attn\.q_proj\.bias/,
      (dir) =>
        folder(
          dir,
          edit((w) => w.set('model.layers.0.self_attn.q_proj.bias', weight(random(1), [SHAPE.hidden]))),
        ),
    ],
    [
      'a tensor of another architecture in a folder',
      'unsupported_feature',
      /got model\.layers\.0\.self_attn\.q_norm\.weight/,
      (dir) =>
        folder(
          dir,
          edit((w) => w.set('model.layers.0.self_attn.q_norm.weight', weight(random(1), [SHAPE.headDim]))),
        ),
    ],
    [
      'an unknown pre-tokenizer',
      'unsupported_feature',
      /smollm, gpt-2, llama-bpe, got deepseek-llm/,
      (dir) => file(dir, { 'tokenizer.ggml.pre': 'deepseek-llm' }),
    ],
    [
      'a tokenizer.json that is no JSON',
      'bad_source',
      /cannot read .*tokenizer\.json: /,
      (dir) => path.dirname(write(folder(dir), 'tokenizer.json', '{"model": ')),
    ],
    [
      'a tokenizer.json without a vocabulary',
      'bad_source',
      /tokenizer\.json: \/model must have required properties vocab/,
      (dir) => path.dirname(write(folder(dir), 'tokenizer.json', '{"model": {}}')),
    ],
    [
      'a tokenizer of words',
      'unsupported_feature',
      /model must be BPE or Unigram, got WordPiece/,
      (dir) => path.dirname(write(folder(dir), 'tokenizer.json', '{"model": {"type": "WordPiece", "vocab": {}}}')),
    ],
    [
      'Unigram with bytes, which the library does not know',
      'unsupported_feature',
      /byte_fallback must be false for Unigram, got true/,
      (dir) => {
        const json = { model: { type: 'Unigram', vocab: [['a', -1]], byte_fallback: true } };
        return path.dirname(write(folder(dir), 'tokenizer.json', JSON.stringify(json)));
      },
    ],
    [
      'a GGUF from before pre-tokenizers were named',
      'unsupported_feature',
      /smollm, gpt-2, llama-bpe, got nothing/,
      (dir) => {
        const metadata = Object.entries(ggufMetadata()).filter(([key]) => key !== 'tokenizer.ggml.pre');
        return writeGguf(dir, tinyWeights(1), Object.fromEntries(metadata));
      },
    ],
    ...[
      { type: 'UnicodeScripts' },
      { type: 'CharDelimiterSplit', delimiter: '-' },
      { type: 'Split', pattern: { Regex: '(?i)a|b' }, behavior: 'Isolated', invert: false },
    ].map((step): Case => [
      `a pre-tokenizer that the library can't build: ${step.type}`,
      'unsupported_feature',
      /the source's tokenizer must be one that the server can load, got: .*(Unknown PreTokenizer|Invalid regular)/,
      (dir) =>
        path.dirname(write(folder(dir), 'tokenizer.json', JSON.stringify(tokenizerJson({ pre_tokenizer: step })))),
    ]),
    [
      "a chat template that the library can't read",
      'unsupported_feature',
      /the source's chat template must be one that the server can load, got: Unknown statement type: include/,
      (dir) => path.dirname(write(folder(dir), 'chat_template.jinja', "{% include 'other' %}")),
    ],
    ['exits that fall', 'bad_exits', /must increase, got 2,1,3/, folder, { exits: [2, 1, 3] }],
    ['exits that stop short', 'bad_exits', /must end at the last layer, 3, got 1,2/, folder, { exits: [1, 2] }],
    ['fp16 beside another kernel', 'bad_option', /fp16 can't be combined/, folder, { kernels: ['fp16', 'int4'] }],
    ['9 bits in a byte', 'bad_option', /--head-bits must be .*, got 9/, folder, { headBits: 9 }],
    ['4 bits in a byte', 'bad_option', /--weight-bits must be .*, got 4/, folder, { weightBits: 4 }],
    ['a block of 48', 'bad_option', /--block must be .*, got 48/, folder, { block: 48 }],
    ...(
      [
        ['--block', '--kernels int4', { block: 64 }],
        ['--weight-bits', '--kernels w8a8', { weightBits: 7 }],
        ['--head-bits', '--kernels w8a8 or int4', { headBits: 7 }],
        ['--calibration', '--kernels w8a8 or int4, or --kv int8', { calibration: 'x' }],
      ] as const
    ).flatMap(([option, rule, value]) =>
      (['fp32', 'fp16'] as const).map((kernel): Case => [
        `${option} without effect in ${kernel}`,
        'bad_option',
        new RegExp(`^${option} has an effect only with ${rule}, got ${option} \\w+ with --kernels ${kernel}$`),
        folder,
        { ...value, kernels: [kernel] },
      ]),
    ),
    [
      'more layers than can be counted',
      'missing_tensor',
      /no tensor for model\.layers\.3\.input_layernorm\.weight/,
      (dir) => file(dir, { 'llama.block_count': 2 ** 52 }),
      { exits: [2 ** 52] },
    ],
    [
      'a context that no table holds',
      'unsupported_architecture',
      /context must be at most 16777216, got 1000000000000/,
      (dir) => folder(dir, undefined, { max_position_embeddings: 1e12 }),
    ],
    [
      'a rope scaling of part of a position',
      'unsupported_architecture',
      /originalContext must be an integer, got 8192\.5/,
      (dir) => folder(dir, undefined, { rope_scaling: { ...LLAMA3, original_max_position_embeddings: 8192.5 } }),
    ],
    [
      'a rope scaling that is only named',
      'bad_source',
      /rope scaling must be an object or null, got "linear"/,
      (dir) => folder(dir, undefined, { rope_scaling: 'linear' }),
    ],
    [
      'token types that are no list',
      'bad_source',
      /tokenizer\.ggml\.token_type must be a list, got 5/,
      (dir) => file(dir, { 'tokenizer.ggml.token_type': 5 }),
    ],
    [
      'arrays of arrays in a GGUF',
      'bad_source',
      /holds an array of arrays/,
      (dir) => write(dir, 'x.gguf', nestedGguf(50_000)),
    ],
    [
      'a tensor of more dimensions than there are',
      'bad_source',
      /tensor t must have at most 4 dimensions, got 4294967295/,
      (dir) => write(dir, 'x.gguf', manyDimensions()),
    ],
    [
      'a token id that no table reaches',
      'bad_source',
      /\/added_tokens\/0\/id must be <= 16777216/,
      (dir) => {
        const source = folder(dir);
        const added_tokens = [{ id: 4_294_967_290, content: '<pad>', special: true }];
        write(source, 'tokenizer.json', JSON.stringify(tokenizerJson({ added_tokens })));
        return source;
      },
    ],
    ['--weight-bits of int4', 'bad_option', /--kernels int4$/, folder, { weightBits: 7, kernels: ['int4'] }],
    ['--block of w8a8', 'bad_option', /--kernels w8a8$/, folder, { block: 64, kernels: ['w8a8'] }],
    [
      'a rule against loops for full depth alone',
      'bad_option',
      /--dry is for exits below full depth, got --dry 8,2,3 with --exits 3/,
      folder,
      { exits: [3], dry: [8, 2, 3] },
    ],
  ];
  for (const [name, code, message, source, options] of cases)
    await t.test(name, async (t) => {
      const dir = t.testdir();
      const input = source(dir);
      const before = readdirSync(dir);
      await t.rejects(run(dir, input, options), { name: 'ConvertError', code, message });
      t.strictSame(readdirSync(dir), before);
    });

  await t.test('an output folder that exists', async (t) => {
    const dir = t.testdir();
    const source = folder(dir);
    await run(dir, source);
    await t.rejects(run(dir, source), { code: 'out_exists' });
    await run(dir, source, { force: true });
    t.ok(loadManifest(path.join(dir, 'out')));
  });

  await t.test('--force replaces neither what is converted nor what is no model folder', async (t) => {
    const dir = t.testdir({
      notes: { 'notes.txt': 'of years' },
      foreign: { 'manifest.json': '{"format": "another"}' },
      empty: {},
      file: 'text',
      [`out.partial-${process.pid}`]: { 'stale.bin': 'of a killed run' },
    });
    const at = (name: string) => path.join(dir, name);
    const source = folder(dir);
    symlinkSync(source, at('link'));
    symlinkSync(at('nothing'), at('dangling'));
    const quality = at('empty/quality.json');
    const force = (out: string, options: Partial<ConvertOptions> = {}) =>
      run(dir, source, { out: at(out), force: true, ...options });
    for (const out of ['hf', '.', 'link'])
      for (const forced of [true, false])
        await t.rejects(
          force(out, { force: forced }),
          { code: 'bad_option', message: /--out must be a folder that holds nothing to convert, got .* with .*hf$/ },
          out,
        );
    for (const out of ['notes', 'foreign', 'file'])
      await t.rejects(
        force(out),
        { code: 'out_exists', message: /--force replaces only an empty folder or a model/ },
        out,
      );
    await t.rejects(force('dangling'), { code: 'out_exists', message: /is a link to what does not exist$/ });
    t.equal(readFileSync(at('notes/notes.txt'), 'utf8'), 'of years');
    t.ok(readdirSync(source).includes('model.safetensors'));
    writeFileSync(quality, '{"1": {"kl": 0.5}}');
    await t.rejects(force('empty', { quality }), { code: 'bad_option', message: /with .*quality\.json$/ });
    rmSync(quality);
    await force('empty');
    await force('empty');
    t.ok(loadManifest(at('empty')));
    await force('out');
    t.notOk(readdirSync(at('out')).includes('stale.bin'));
    t.strictSame(
      readdirSync(dir).filter((name) => /partial|old/.test(name)),
      [`out.partial-${process.pid}`],
      'nothing else is left',
    );
  });

  const shared = '/dev/shm';
  const isMounted = existsSync(shared) && statSync(shared).dev !== statSync(path.dirname(shared)).dev;
  await t.test('an output folder that is a mount point', { skip: !isMounted && 'nothing is mounted' }, async (t) => {
    const dir = t.testdir();
    await t.rejects(run(dir, folder(dir), { out: shared, force: true }), {
      code: 'bad_option',
      message: `--out must be a folder that can be renamed, got the mount point ${shared}`,
    });
  });

  await t.test('a folder whose name no request can say is no name', async (t) => {
    const dir = t.testdir();
    const message = /^--name must be a name of letters, .*, got none, and the folder's, mine:15, is no such name$/;
    await t.rejects(convert({ ...OPTIONS, source: folder(dir), out: path.join(dir, 'mine:15') }), {
      code: 'bad_option',
      message,
    });
  });

  await t.test('quality of a layer that is no exit', async (t) => {
    const dir = t.testdir({
      'good.json': '{"1": {"kl": 0.5, "agreement": 0.75}}',
      'bad.json': '{"2": {}}',
      'odd.json': '{"1": {"kl": "low"}}',
      'percent.json': '{"1": {"agreement": 75}}',
      'spelt.json': '{"1": {"agrement": 0.75}}',
    });
    const source = folder(dir);
    const quality = (name: string) => run(dir, source, { quality: path.join(dir, name) });
    await t.rejects(quality('bad.json'), { code: 'bad_exits', message: /2 is none of the exits 1, 3/ });
    await t.rejects(quality('odd.json'), { code: 'bad_source', message: /\/1\/kl must be number/ });
    await t.rejects(quality('percent.json'), { code: 'bad_source', message: /\/1\/agreement must be <= 1/ });
    await t.rejects(quality('spelt.json'), {
      code: 'bad_source',
      message: /\/1\/agrement is not a field of this file/,
    });
    t.strictSame(
      (await quality('good.json')).exits.map((exit) => exit.quality),
      [{ kl: 0.5, agreement: 0.75 }, {}],
    );
  });

  await t.test('a rule against loops is for the exits below full depth', async (t) => {
    const dir = t.testdir();
    const source = folder(dir);
    for (const dry of [
      [8, 2],
      [8, 0.5, 3],
      [8, 2, 0],
      [8, 2, 2.5],
      [-1, 2, 3],
    ])
      await t.rejects(run(dir, source, { dry }), { code: 'bad_option', message: `got ${dry.join(',')}` });
    t.strictSame(
      (await run(dir, source, { dry: [8, 2, 3] })).exits.map((exit) => exit.dry),
      [{ multiplier: 8, base: 2, allowedLength: 3 }, undefined],
    );
    t.match(describe(dir, await inspect(path.join(dir, 'out'))), /exit +1 .*, dry 8,2,3\n/);
  });

  await t.test('an exit that runs no more layers than the one before', async (t) => {
    const dir = t.testdir();
    const next = random(3);
    const exitBlocks = path.join(dir, 'blocks.safetensors');
    const blocks = [
      ['exits.1.norm.weight', weight(next, [SHAPE.hidden])],
      ...LAYER_SHAPES.map(([name, shape]) => [`exits.1.layers.0.${name}`, weight(next, shape)] as const),
    ] as const;
    writeFileSync(exitBlocks, safetensors(new Map(blocks)));
    await t.rejects(run(dir, folder(dir), { exits: [1, 2, 3], exitBlocks }), {
      code: 'bad_exits',
      message: /must run more layers than the one before, its block included; got 2, 2, 3/,
    });
  });

  await t.test('exit blocks of another model', async (t) => {
    const dir = t.testdir();
    const exitBlocks = path.join(dir, 'blocks.safetensors');
    writeFileSync(exitBlocks, safetensors([['exits.2.norm.weight', weight(random(1), [SHAPE.hidden])]]));
    await t.rejects(run(dir, folder(dir), { exitBlocks }), {
      code: 'bad_exits',
      message:
        /^--exits must name 2 below the last layer, since .*blocks.safetensors has a block of it \(exits\.2\.norm\.weight\), got 1,3$/,
    });
    writeFileSync(exitBlocks, safetensors([['exits.1.norm.weight', weight(random(1), [8])]]));
    await t.rejects(run(dir, folder(dir), { exitBlocks }), {
      code: 'wrong_shape',
      message: `${exitBlocks}: tensor exits.1.norm.weight must have shape [64], got [8]`,
    });
    writeFileSync(
      exitBlocks,
      safetensors([['exits.1.layers.0.mlp.up_proj.weight', weight(random(1), [SHAPE.ffn, SHAPE.hidden])]]),
    );
    await t.rejects(run(dir, folder(dir), { exitBlocks }), {
      code: 'missing_tensor',
      message: /exits\.1\.norm\.weight/,
    });
    writeFileSync(
      exitBlocks,
      safetensors(
        ['exits.1.norm.weight', ...LAYER_SHAPES.map(([name]) => `exits.1.layers.0.${name}`)]
          .map((name, i): [string, Weight] => [name, weight(random(i), LAYER_SHAPES[i - 1]?.[1] ?? [SHAPE.hidden])])
          .concat([['exits.1.layers.0.mlp.up_proj.bias', weight(random(1), [SHAPE.ffn])]]),
      ),
    );
    await t.rejects(run(dir, folder(dir), { exitBlocks }), {
      code: 'unsupported_feature',
      message: /got exits\.1\.layers\.0\.mlp\.up_proj\.bias/,
    });
  });
});

void t.test('a GGUF of which the end is missing is refused before any work', async (t) => {
  const dir = t.testdir();
  const source = path.join(dir, 'part.gguf');
  writeFileSync(source, gguf(tinyWeights(1), ggufMetadata()).subarray(0, -100));
  let steps = 0;
  await t.rejects(
    convert({ ...OPTIONS, source, out: path.join(dir, 'out') }, () => steps++),
    { code: 'truncated_file', message: /part\.gguf is truncated: tensor blk\.2\.ffn_down\.weight ends at byte/ },
  );
  t.equal(steps, 0);
});

void t.test('what is no model folder is told how to become one', async (t) => {
  const dir = t.testdir();
  for (const source of [writeGguf(dir, tinyWeights(1)), writeFolder(path.join(dir, 'hf'), tinyWeights(1))])
    t.throws(() => loadManifest(source), { message: /^.* is not a model folder .*; `sortie convert` makes one$/ });
  t.throws(() => loadManifest(path.join(dir, 'nothing')), { message: /^cannot read .*nothing.*ENOENT/ });
});

void t.test('early exits that nothing is known of are warned of, after the summary', async (t) => {
  const dir = t.testdir({ 'quality.json': '{"1": {"kl": 0.5, "agreement": 0.75}}', 'kl.json': '{"1": {"kl": 0.5}}' });
  const source = writeFolder(path.join(dir, 'hf'), tinyWeights(1));
  const exitBlocks = path.join(dir, 'blocks.safetensors');
  const next = random(3);
  const layer = LAYER_SHAPES.map(([name, shape]) => [`exits.1.layers.0.${name}`, weight(next, shape)] as const);
  const blocks: Weights = new Map([['exits.1.norm.weight', weight(next, [SHAPE.hidden])], ...layer]);
  writeFileSync(exitBlocks, safetensors(blocks));
  const warningOf = async (options: Partial<ConvertOptions>) => {
    const [terminal, errors] = [new PassThrough(), new PassThrough()];
    const out = path.join(dir, 'out');
    await convertCommand({ ...OPTIONS, source, out, force: true, ...options }, terminal, errors);
    t.match(String(terminal.read()), /kernels fp32, .* files\n$/);
    return errors.read() as Buffer | null;
  };
  const warning = /^warning: exits without a block and without a measured quality: 1\. .*bench:quality.*--quality/;
  t.match(String(await warningOf({})), warning);
  t.match(String(await warningOf({ quality: path.join(dir, 'kl.json') })), warning, 'the router reads agreement');
  t.equal(await warningOf({ quality: path.join(dir, 'quality.json') }), null);
  t.equal(await warningOf({ exitBlocks }), null);
  t.equal(await warningOf({ exits: [3] }), null);
});

void t.test('a signal ends the conversion, leaves what was there and shows the cursor again', async (t) => {
  for (const [signal, code] of [
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const) {
    const dir = t.testdir();
    const source = writeFolder(path.join(dir, 'hf'), tinyWeights(1));
    const out = path.join(dir, 'out');
    await run(dir, source);
    const before = readFileSync(path.join(out, 'manifest.json'));
    const handlers = process.listenerCount(signal);
    const shown: string[] = [];
    const terminal = Object.assign(
      new Writable({
        write(text: Buffer, _, done) {
          if (shown.length === 0) process.kill(process.pid, signal);
          shown.push(text.toString());
          done();
        },
      }),
      { isTTY: true },
    );
    const error: unknown = await convertCommand({ ...OPTIONS, source, out, force: true }, terminal).catch(
      (thrown: unknown) => thrown,
    );
    t.match(error, { name: 'Interrupted', message: `ended by ${signal}; nothing was written` });
    t.equal(exitCode(error), code);
    t.strictSame(readdirSync(dir).sort(), ['hf', 'out']);
    t.strictSame(readFileSync(path.join(out, 'manifest.json')), before);
    const cursor = shown.join('').matchAll(/\x1b\[\?25([hl])/g);
    t.equal([...cursor].at(-1)?.[1], 'h', 'the cursor is shown');
    t.equal(process.listenerCount(signal), handlers, 'no handler is left');
  }
});

void t.test('wrong usage is told from input that is at fault by the exit code', async (t) => {
  const codes = { bad_option: 2, bad_exits: 2, out_exists: 2, bad_source: 1, missing_tensor: 1 } as const;
  for (const [code, expected] of Object.entries(codes) as [keyof typeof codes, number][])
    t.equal(exitCode(new ConvertError(code, 'x')), expected, code);
});

void t.test('a damaged chat template is named by its file', async (t) => {
  const dir = t.testdir();
  const { chatTemplate } = await run(dir, writeGguf(dir, tinyWeights(1)));
  writeFileSync(path.join(dir, 'out', chatTemplate ?? ''), '{% if x %}');
  t.throws(() => loadServedModel(path.join(dir, 'out'), null), { message: /^cannot read .*chat_template\.jinja: / });
});

void t.test('a damaged folder is noticed', async (t) => {
  const dir = t.testdir();
  const out = path.join(dir, 'out');
  await run(dir, writeFolder(path.join(dir, 'hf'), tinyWeights(6)));
  const weights = path.join(out, 'weights-000.bin');
  const bytes = readFileSync(weights);
  bytes[100] = (bytes[100] ?? 0) ^ 1;
  writeFileSync(weights, bytes);
  await t.rejects(inspect(out), { message: /weights-000\.bin is damaged/ });
  writeFileSync(weights, bytes.subarray(1));
  await t.rejects(inspect(out), { message: /weights-000\.bin has \d+ bytes/ });
  const manifest = JSON.parse(readFileSync(path.join(out, 'manifest.json'), 'utf8')) as { topK: unknown };
  writeFileSync(path.join(out, 'manifest.json'), JSON.stringify({ ...manifest, topK: 'many' }));
  t.throws(() => loadManifest(out), { message: /manifest\.json: \/topK must be integer/ });
});

void t.test('a calibration that holds the ranges of keys and values puts the KV cache in bytes', async (t) => {
  const dir = t.testdir();
  const source = writeFolder(path.join(dir, 'hf'), tinyWeights(4));
  const channels = SHAPE.kvHeads * SHAPE.headDim;
  const ranges = (layers: number): string => {
    const file = path.join(dir, `ranges-${layers}.safetensors`);
    const range = { shape: [channels], data: new Float32Array(channels).fill(3) };
    const names = Array.from({ length: layers }, (_, i) => [`layers.${i}.k_max`, `layers.${i}.v_max`]).flat();
    writeFileSync(file, safetensors(names.map((name) => [name, range])));
    return file;
  };
  const all = ranges(SHAPE.layers);
  const kvType = async (options: Partial<ConvertOptions>) =>
    (await run(dir, source, { force: true, ...options })).kvType;
  t.equal(await kvType({ kernels: ['w8a8', 'int4'], calibration: all, kv: 'int8' }), 'i8');
  const graph = readFileSync(path.join(dir, 'out', 'stage-0.w8a8.onnx')).toString('latin1');
  for (const part of ['k_quant_type', 'PER_CHANNEL', 'kv_cache_bit_width', 'layers.0.k_scale'])
    t.ok(graph.includes(part), part);
  t.equal(await kvType({ kernels: ['w8a8'], calibration: all, kv: 'float' }), 'f32');
  t.equal(await kvType({ kernels: ['w8a8'], calibration: all }), 'f32', 'bytes only where they are asked for');
  t.equal(await kvType({ kernels: ['fp32'], calibration: all, kv: 'int8' }), 'i8');
  await t.rejects(kvType({ kernels: ['w8a8'], kv: 'int8' }), /--kv int8 needs a --calibration file/);
  await t.rejects(kvType({ kernels: ['fp16'], calibration: all, kv: 'int8' }), /--kernels fp16/);
  await t.rejects(kvType({ kernels: ['w8a8'], calibration: ranges(2), kv: 'int8' }), {
    code: 'bad_option',
    message: /--kv int8 needs .* k_max and v_max of each layer, got .* without those of layers\.2$/,
  });
});
