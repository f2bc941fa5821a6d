/** The whole conversion: the same model from every format gives the same folder; bad input gives one clear error. */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { PassThrough, Writable } from 'node:stream';
import { gunzipSync } from 'node:zlib';
import t from 'tap';
import { exitCode } from '../../src/cli/cli.js';
import { convertCommand, describe } from '../../src/convert/convert-command.js';
import { openGguf } from '../../src/convert/formats/gguf/source.js';
import { openHuggingFace } from '../../src/convert/formats/hf/source.js';
import { generationOf } from '../../src/convert/settings.js';
import type { ModelSource } from '../../src/convert/source.js';
import { inspect } from '../../src/convert/inspect.js';
import type { ConvertOptions } from '../../src/convert/convert-options.js';
import { loadServedModel } from '../../src/gateway/api/load-served-model.js';
import { loadManifest } from '../../src/engine/model/manifest-io.js';
import { externalTensors } from '../../src/engine/model/onnx-weights.js';
import {
  ggufMetadata,
  LAYER_SHAPES,
  random,
  safetensors,
  SHAPE,
  tinyWeights,
  weight,
  writeFolder,
  type GgufMetadata,
  type Weights,
  OPTIONS,
  run,
  writeGguf,
  writeRanges,
} from './tiny.js';

/** Graphs and weights of a folder by file name. */
function content(dir: string): Map<string, Buffer> {
  const names = readdirSync(dir).filter((name) => /\.(onnx|bin)$/.test(name));
  return new Map(names.map((name) => [name, readFileSync(path.join(dir, name))]));
}

/** A file with a block of one layer for exit 1, of its own random weights and norm. */
function oneBlock(file: string, next: () => number, norm = next): string {
  const layer = LAYER_SHAPES.map(([name, shape]) => [`exits.1.layers.0.${name}`, weight(next, shape)] as const);
  const blocks: Weights = new Map([['exits.1.norm.weight', weight(norm, [SHAPE.hidden])], ...layer]);
  writeFileSync(file, safetensors(blocks));
  return file;
}

void t.test('GGUF and sharded safetensors of one model give the same graphs and weights', async (t) => {
  const weights = tinyWeights(1);
  const dir = t.testdir();
  const contentOf = async (source: string) => {
    await run(dir, source, { force: true });
    return content(path.join(dir, 'out'));
  };
  const expected = await contentOf(writeFolder(path.join(dir, 'hf'), weights));
  t.equal(expected.size, 7, 'embed, head, select, argmax, two stages, one weight file');
  for (const source of [
    writeFolder(path.join(dir, 'sharded'), weights, { shards: 3, dtype: 'BF16' }),
    writeFolder(path.join(dir, 'f16'), weights, { dtype: 'F16' }),
    writeGguf(dir, weights, ggufMetadata(), true),
  ])
    t.strictSame(await contentOf(source), expected, source);
});

void t.test('stages, exit blocks and shared tensors have the layout of the manifest', async (t) => {
  const dir = t.testdir();
  const exitBlocks = oneBlock(path.join(dir, 'blocks.safetensors'), random(9), random(8));
  const out = path.join(dir, 'out');
  const source = writeFolder(path.join(dir, 'hf'), tinyWeights(2));
  const manifest = await run(dir, source, { exits: [1, 3], kernels: ['int4', 'w8a8'], exitBlocks });
  const exits = manifest.exits.map(({ layer, stage, norm, block }) => `${layer},${stage},${norm},${block?.boundary}`);
  t.strictSame(exits, ['2,0,1,1', '3,1,0,undefined']);
  const stages = manifest.stages.map(({ boundary, layers }) => `${layers} from ${boundary}`);
  t.strictSame(stages, ['1 from 0', '2 from 1']);
  const find = (graph: string, name: string) =>
    externalTensors(path.join(out, graph)).find((tensor) => tensor.name === name);
  const tied = find('embed.onnx', 'head.weight_q8');
  t.ok(tied);
  t.strictSame(tied, find('head.onnx', 'head.weight_q8'), 'tied tensors are stored once');
  t.strictSame(find('stage-0.int4.onnx', 'rope.cos'), find('exit-2.w8a8.onnx', 'rope.cos'));
  t.ok(find('exit-2.int4.onnx', 'exits.1.layers.0.down.weight_q4'));
  t.strictSame(loadManifest(out), manifest);
  t.equal((await inspect(out)).manifest.name, 'tiny');
});

void t.test('the same input gives the same bytes, compressed or not', async (t) => {
  const dir = t.testdir();
  const source = writeFolder(path.join(dir, 'hf'), tinyWeights(3));
  const [one, two, raw] = ['one', 'two', 'raw'].map((name) => path.join(dir, name)) as [string, string, string];
  const options = { kernels: ['int4'], compress: true } as const;
  t.strictSame(await run(dir, source, { ...options, out: one }), await run(dir, source, { ...options, out: two }));
  await run(dir, source, { out: raw, kernels: ['int4'] });
  const unzipped = gunzipSync(readFileSync(path.join(one, 'weights-000.bin.gz')));
  t.strictSame(unzipped, readFileSync(path.join(raw, 'weights-000.bin')), 'gunzip restores the file in the graphs');
});

void t.test('sampling defaults come from both formats, and --generation wins field by field', async (t) => {
  const dir = t.testdir();
  const folder = writeFolder(path.join(dir, 'hf'), tinyWeights(1));
  const ofFolder = (json: object): ModelSource => {
    writeFileSync(path.join(folder, 'generation_config.json'), JSON.stringify(json));
    return openHuggingFace(folder);
  };
  const ofFile = (sampling: GgufMetadata) =>
    openGguf(writeGguf(dir, tinyWeights(1), { ...ggufMetadata(), ...sampling }));
  const all = { temperature: 0.6, topP: 0.9, topK: 20, minP: 0.05, repetitionPenalty: 1.1 };
  const named = { temperature: 0.6, top_p: 0.9, top_k: 20, min_p: 0.05, repetition_penalty: 1.1 };
  const keys = { temp: Math.fround(0.6), top_p: Math.fround(0.9), top_k: 20, min_p: 0.05, penalty_repeat: 1.1 };
  const stored = Object.fromEntries(Object.entries(keys).map(([key, value]) => [`general.sampling.${key}`, value]));
  for (const [source, stated, expected, ignored] of [
    [openHuggingFace(folder), undefined, {}, []],
    [ofFolder({ do_sample: true, ...named }), undefined, all, []],
    [ofFolder(named), 'temperature=0, top_k=5', { ...all, temperature: 0, topK: 5 }, []],
    [ofFolder({ max_new_tokens: 500 }), undefined, { maxTokens: 500 }, []],
    [
      ofFolder({ temperature: 3, top_k: -1, top_p: null }),
      ...([undefined, { topK: 0 }] as const),
      [/generation_config\.json: temperature is ignored: it must be a number from 0 to 2, got 3$/],
    ],
    [ofFile({}), undefined, {}, []],
    [ofFile({ ...stored, 'general.sampling.mirostat': 0 }), undefined, all, []],
    [
      ofFile({ 'general.sampling.temp': 'warm' }),
      ...([undefined, {}] as const),
      [/tiny\.gguf: general\.sampling\.temp is ignored: .*, got "warm"$/],
    ],
  ] as const) {
    const warnings: string[] = [];
    t.strictSame(
      generationOf(source.sampling, stated, (text) => warnings.push(text)),
      expected,
    );
    t.equal(warnings.length, ignored.length);
    t.match(warnings, ignored);
    source.close();
  }
  const described = async (options: Partial<ConvertOptions>) => {
    await run(dir, writeGguf(dir, tinyWeights(1)), { force: true, ...options });
    return describe(path.join(dir, 'out'), await inspect(path.join(dir, 'out')));
  };
  t.match(await described({}), /\nsampling +no defaults\n/);
  t.match(await described({ generation: 'top_p=0.9' }), /\nsampling +top_p 0.9\n/);
});

void t.test('a warning about early exits of unknown quality follows the summary', async (t) => {
  const dir = t.testdir({ 'quality.json': '{"1": {"kl": 0.5, "agreement": 0.75}}', 'kl.json': '{"1": {"kl": 0.5}}' });
  const source = writeFolder(path.join(dir, 'hf'), tinyWeights(1));
  const exitBlocks = oneBlock(path.join(dir, 'blocks.safetensors'), random(3));
  const warningOf = async (options: Partial<ConvertOptions>) => {
    const [terminal, errors] = [new PassThrough(), new PassThrough()];
    const out = path.join(dir, 'out');
    await convertCommand({ ...OPTIONS, source, out, force: true, ...options }, terminal, errors);
    t.match(String(terminal.read()), /^warning: the source has no chat template.*\n[^]*kernels fp32, .* files\n$/);
    // The source states no sampling either: its warning belongs to another test.
    const lines = (errors.read() as Buffer).toString().split('\n');
    return lines.find((line) => line.includes('exits')) ?? null;
  };
  const warning = /^warning: exits without a block and without a measured agreement: 1\. .*bench:quality.*--quality/;
  t.match(await warningOf({}), warning);
  t.match(await warningOf({ quality: path.join(dir, 'kl.json') }), warning, 'the router reads agreement');
  t.equal(await warningOf({ quality: path.join(dir, 'quality.json') }), null);
  t.equal(await warningOf({ exitBlocks }), null);
  t.equal(await warningOf({ exits: [3] }), null);
});

void t.test('a signal stops the conversion, keeps the old folder and shows the cursor again', async (t) => {
  const codes = { SIGINT: 130, SIGTERM: 143 } as const;
  for (const [signal, code] of Object.entries(codes) as [keyof typeof codes, number][]) {
    const dir = t.testdir();
    const source = writeFolder(path.join(dir, 'hf'), tinyWeights(1));
    const out = path.join(dir, 'out');
    await run(dir, source);
    const before = readFileSync(path.join(out, 'manifest.json'));
    const handlers = process.listenerCount(signal);
    const shown: string[] = [];
    const write = (text: Buffer, _: unknown, done: () => void): void => {
      if (shown.length === 0) process.kill(process.pid, signal);
      shown.push(text.toString());
      done();
    };
    const terminal = Object.assign(new Writable({ write }), { isTTY: true });
    const converting = convertCommand({ ...OPTIONS, source, out, force: true }, terminal);
    const error: unknown = await converting.catch((thrown: unknown) => thrown);
    t.match(error, { name: 'Interrupted', message: `stopped by ${signal}; nothing was written` });
    t.equal(exitCode(error), code);
    t.strictSame(readdirSync(dir).sort(), ['hf', 'out']);
    t.strictSame(readFileSync(path.join(out, 'manifest.json')), before);
    const cursor = shown.join('').matchAll(/\x1b\[\?25([hl])/g);
    t.equal([...cursor].at(-1)?.[1], 'h', 'the cursor is shown');
    t.equal(process.listenerCount(signal), handlers, 'no handler is left');
  }
});

void t.test('the error about a damaged chat template names its file', async (t) => {
  const dir = t.testdir();
  const { chatTemplate } = await run(dir, writeGguf(dir, tinyWeights(1)));
  writeFileSync(path.join(dir, 'out', chatTemplate ?? ''), '{% if x %}');
  t.throws(() => loadServedModel(path.join(dir, 'out')), { message: /^cannot read .*chat_template\.jinja: / });
});

void t.test('inspect finds a damaged folder', async (t) => {
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

void t.test('a calibration with the ranges of keys and values allows an int8 KV cache', async (t) => {
  const dir = t.testdir();
  const source = writeFolder(path.join(dir, 'hf'), tinyWeights(4));
  const ranges = (layers: number): string =>
    writeRanges(path.join(dir, `ranges-${layers}.safetensors`), layers, SHAPE.kvHeads * SHAPE.headDim, 3);
  const all = ranges(SHAPE.layers);
  const kvType = async (options: Partial<ConvertOptions>) =>
    (await run(dir, source, { force: true, ...options })).kvType;
  t.equal(await kvType({ kernels: ['w8a8', 'int4'], calibration: all, kv: 'int8' }), 'i8');
  const graph = readFileSync(path.join(dir, 'out', 'stage-0.w8a8.onnx')).toString('latin1');
  for (const part of ['k_quant_type', 'PER_CHANNEL', 'kv_cache_bit_width', 'layers.0.k_scale'])
    t.ok(graph.includes(part), part);
  t.equal(await kvType({ kernels: ['w8a8'], calibration: all, kv: 'float' }), 'f32');
  t.equal(await kvType({ kernels: ['w8a8'], calibration: all }), 'f32', 'floats without --kv int8');
  t.equal(await kvType({ kernels: ['fp32'], calibration: all, kv: 'int8' }), 'i8');
  await t.rejects(kvType({ kernels: ['w8a8'], kv: 'int8' }), /--kv int8 needs a --calibration file/);
  for (const kernel of ['fp16', 'w4a16'] as const)
    await t.rejects(kvType({ kernels: [kernel], calibration: all, kv: 'int8' }), new RegExp(`--kernels ${kernel}`));
  const message = /--kv int8 needs .* k_max and v_max of each layer, got .* without those of layers\.2$/;
  const half = kvType({ kernels: ['w8a8'], calibration: ranges(2), kv: 'int8' });
  await t.rejects(half, { isUsage: true, message });
});
