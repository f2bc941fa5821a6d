/** Small models of test/golden, converted: a llama, one with exit blocks, and a looped one. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Test } from 'tap';
import { convert } from '../../src/convert/convert.js';
import type { KernelName } from '../../src/engine/model/manifest.js';
import { openSafetensors } from '../../src/convert/formats/hf/safetensors.js';
import { goldenLoops, goldenWeights, writeGoldenFolder } from '../convert/golden-model.js';
import { tokenizerJson, writeRanges } from '../convert/tiny.js';

const tiny = fileURLToPath(new URL('../../../test/golden/tiny', import.meta.url));

/** Every channel of the tiny model's keys and values stays below this. */
const RANGE = 4;

async function temporary(t: Test): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'sortie-tiny-'));
  t.teardown(() => rm(dir, { recursive: true }));
  return dir;
}

/** Converts the tiny model with exits after two layers and after all. @returns a folder, removed after the test */
export async function tinyModel(
  t: Test,
  kv: 'float' | 'int8',
  kernels: readonly KernelName[] = ['w8a8'],
): Promise<string> {
  const dir = await temporary(t);
  const out = join(dir, kv);
  const source = openSafetensors(join(tiny, 'model.safetensors'));
  const layers = source.names.filter((name) => name.endsWith('k_proj.weight'));
  const [channels = 0] = source.tensor(layers[0] ?? '').shape;
  source.close();
  const calibration = writeRanges(join(dir, 'ranges.safetensors'), layers.length, channels, RANGE);
  const options = { exits: [2, layers.length], compress: false, force: false };
  await convert({ source: tiny, out, kernels, calibration, kv, ...options });
  return out;
}

/** The tiny model with exit blocks, exits 2, 4 and 5. @returns its folder, removed after the test */
export async function blocksModel(t: Test, kernel: KernelName): Promise<string> {
  const out = join(await temporary(t), kernel);
  const exitBlocks = join(tiny, 'exit-blocks.safetensors');
  await convert({ source: tiny, exits: [1, 2, 5], exitBlocks, out, kernels: [kernel], compress: false, force: true });
  return out;
}

/**
 * Four loops of two layers as exits, and a token for each of 96 characters. Logits of 60 leave few near-ties.
 * @returns its folder, removed after the test
 */
export async function loopedModel(t: Test): Promise<string> {
  const dir = await temporary(t);
  const model = goldenLoops('ouro-4');
  const weights = goldenWeights(model);
  weights.get('lm_head.weight')?.data.forEach((value, i, data) => (data[i] = 16 * value));
  const source = writeGoldenFolder(join(dir, 'looped'), model, {}, weights);
  const vocab = Object.fromEntries(Array.from({ length: 96 }, (_, id) => [String.fromCharCode(id + 33), id]));
  const json = tokenizerJson({ model: { type: 'BPE', vocab, merges: [] }, decoder: { type: 'ByteLevel' } });
  await writeFile(join(source, 'tokenizer.json'), JSON.stringify(json));
  const out = join(dir, 'out', 'looped');
  await convert({ source, out, kernels: ['fp32'], compress: false, force: false });
  return out;
}
