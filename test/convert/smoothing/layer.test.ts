/**
 * Smooths a tiny model with outlier channels at every input: the same function in floats, and a smaller error in
 * 8 bits. Runs the real graphs.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import t, { type Test } from 'tap';
import { convert } from '../../../src/convert/convert.js';
import type { ConvertOptions } from '../../../src/convert/convert-options.js';
import type { KernelName } from '../../../src/engine/model/manifest.js';
import { externalTensors } from '../../../src/engine/model/onnx-weights.js';
import { advanceTo, distance, logitsAt, makeExecutor, openSlot } from '../../engine/helper.js';
import {
  LAYER_SHAPES,
  random,
  safetensors,
  SHAPE,
  tinyWeights,
  weight,
  writeFolder,
  type Weight,
  type Weights,
} from '../tiny.js';

const { hidden, heads, kvHeads, headDim, ffn, layers } = SHAPE;
/** Size of an outlier channel relative to the other channels. */
const OUTLIER = 64;
/** The outlier channel of every input; among the channels of the values, it is in the second KV head. */
const CHANNEL = 21;
/** Query heads 2 and 3 read KV head 1. */
const ATTENTION_CHANNELS = [2, 3].map((head) => head * headDim + (CHANNEL % headDim));
const PROMPT = Array.from({ length: 24 }, (_, i) => 2 + ((i * 37) % 200));

function scaleColumns({ shape, data }: Weight, columns: readonly number[], factor: number): void {
  const k = shape.at(-1) ?? 1;
  for (let i = 0; i < data.length; i++) if (columns.includes(i % k)) data[i] = (data[i] ?? 0) * factor;
}

function scaleRow({ shape, data }: Weight, row: number, factor: number): void {
  const k = shape[1] ?? 1;
  for (let i = row * k; i < (row + 1) * k; i++) data[i] = (data[i] ?? 0) * factor;
}

/** Makes one channel of each input of a layer large, and the weights that read it small. */
function unbalance(weights: Weights, prefix: string): void {
  const at = (name: string): Weight => weights.get(prefix + name) ?? { shape: [0], data: new Float32Array() };
  for (const norm of ['input_layernorm.weight', 'post_attention_layernorm.weight'])
    scaleColumns(at(norm), [CHANNEL], OUTLIER);
  for (const name of ['self_attn.q_proj', 'self_attn.k_proj', 'self_attn.v_proj', 'mlp.gate_proj', 'mlp.up_proj'])
    scaleColumns(at(`${name}.weight`), [CHANNEL], 1 / OUTLIER);
  scaleRow(at('self_attn.v_proj.weight'), CHANNEL, OUTLIER);
  scaleRow(at('mlp.up_proj.weight'), CHANNEL, OUTLIER);
  scaleColumns(at('self_attn.o_proj.weight'), ATTENTION_CHANNELS, 1 / OUTLIER);
  scaleColumns(at('mlp.down_proj.weight'), [CHANNEL], 1 / OUTLIER);
}

/** Second moments of independent inputs with an outlier. */
function moments(k: number, outliers: readonly number[]): Weight {
  const data = new Float32Array(k * k);
  for (let i = 0; i < k; i++) data[i * k + i] = outliers.includes(i) ? OUTLIER ** 2 : 1;
  return { shape: [k, k], data };
}

function measurements(names: readonly string[]): [string, Weight][] {
  return names.flatMap((name): [string, Weight][] => [
    [`${name}.attn_in.hessian`, moments(hidden, [CHANNEL])],
    [`${name}.attn_out.hessian`, moments(heads * headDim, ATTENTION_CHANNELS)],
    [`${name}.mlp_in.hessian`, moments(hidden, [CHANNEL])],
    [`${name}.mlp_out.hessian`, moments(ffn, [CHANNEL])],
  ]);
}

interface Folders {
  readonly plain: string;
  readonly smoothed: string;
}

/** A model with outliers, an exit block and (optionally) attention biases, converted without and with a calibration. */
async function folders(dir: string, kernels: KernelName[], biased = false): Promise<Folders> {
  const next = random(7);
  const weights = tinyWeights(6);
  const blocks: Weights = new Map([
    ['exits.1.norm.weight', weight(next, [hidden])],
    ...LAYER_SHAPES.map(([name, shape]) => [`exits.1.layers.0.${name}`, weight(next, shape)] as const),
  ]);
  const biases = (into: Weights, prefix: string): void => {
    for (const [part, size] of [
      ['q', heads * headDim],
      ['k', kvHeads * headDim],
      ['v', kvHeads * headDim],
      ['o', hidden],
    ] as const)
      into.set(`${prefix}self_attn.${part}_proj.bias`, weight(next, [size]));
  };
  const prefixes = Array.from({ length: layers }, (_, i) => `model.layers.${i}.`);
  if (biased) {
    for (const prefix of prefixes) biases(weights, prefix);
    biases(blocks, 'exits.1.layers.0.');
  }
  for (const prefix of prefixes) unbalance(weights, prefix);
  unbalance(blocks, 'exits.1.layers.0.');
  const exitBlocks = path.join(dir, 'blocks.safetensors');
  writeFileSync(exitBlocks, safetensors(blocks));
  const calibration = path.join(dir, 'calibration.safetensors');
  const names = [...prefixes.map((_, i) => `layers.${i}`), 'exits.1.layers.0'];
  writeFileSync(calibration, safetensors(measurements(names)));
  const source = writeFolder(path.join(dir, 'hf'), weights, { config: { attention_bias: biased } });
  const run = async (name: string, options: Partial<ConvertOptions>): Promise<string> => {
    const out = path.join(dir, name);
    await convert({
      source,
      out,
      exits: [1, 3],
      kernels,
      compress: false,
      force: false,
      exitBlocks,
      ...options,
    });
    return out;
  };
  return { plain: await run('plain', {}), smoothed: await run('smoothed', { calibration }) };
}

/** Logits at the exit block and at full depth. */
async function answers(t: Test, modelDir: string, kernel: KernelName): Promise<Float32Array[]> {
  const executor = await makeExecutor(t, { modelDir, kernels: [kernel], kvMemoryBytes: 2 ** 24 });
  return [0, 1].map((exit) => {
    const slot = openSlot(executor, PROMPT);
    advanceTo(executor, slot, exit, PROMPT.length - 1);
    return logitsAt(executor, slot, exit);
  });
}

const worst = (a: readonly Float32Array[], b: readonly Float32Array[]): number =>
  Math.max(...a.map((logits, i) => distance(logits, b[i] ?? new Float32Array())));

/** The bytes of each stored tensor of a graph. */
function stored(dir: string, graph: string): Map<string, Buffer> {
  return new Map(
    externalTensors(path.join(dir, graph)).map(({ name, location, offset, length }) => [
      name,
      readFileSync(path.join(dir, location)).subarray(offset, offset + length),
    ]),
  );
}

/** Names of the tensors that differ between two folders. */
function changes(a: string, b: string, graph: string): string[] {
  const other = stored(b, graph);
  return [...stored(a, graph)].filter(([name, bytes]) => !bytes.equals(other.get(name) ?? bytes)).map(([name]) => name);
}

for (const biased of [false, true])
  void t.test(`smoothed graphs in floats compute the same${biased ? ', with attention biases' : ''}`, async (t) => {
    const { plain, smoothed } = await folders(t.testdir(), ['fp32', 'w8a8'], biased);
    const expected = await answers(t, plain, 'fp32');
    const scale = Math.max(...expected.map((logits) => Math.max(...logits.map(Math.abs))));
    const difference = worst(await answers(t, smoothed, 'fp32'), expected);
    t.ok(difference <= 1e-5 * Math.max(1, scale), `${difference} of ${scale}`);
    t.ok(changes(smoothed, plain, 'stage-1.fp32.onnx').includes('layers.2.attn_norm'), 'the layer has other weights');
  });

void t.test('smoothing reduces the error of rounding to 8 bits to less than a third', async (t) => {
  const { plain, smoothed } = await folders(t.testdir(), ['w8a8', 'fp32'], true);
  const exact = await answers(t, plain, 'fp32');
  const before = worst(await answers(t, plain, 'w8a8'), exact);
  const after = worst(await answers(t, smoothed, 'w8a8'), exact);
  t.ok(after < before / 3, `${before} before, ${after} after`);
});

void t.test('int4 beside w8a8 uses the smoothed layer and smoothed second moments', async (t) => {
  const { plain, smoothed } = await folders(t.testdir(), ['int4', 'w8a8', 'fp32'], true);
  const expected = await answers(t, plain, 'fp32');
  const before = worst(await answers(t, plain, 'int4'), expected);
  const after = worst(await answers(t, smoothed, 'int4'), expected);
  t.ok(after < before, `${before} before, ${after} after`);
});

void t.test('a folder without w8a8 is not smoothed', async (t) => {
  const { plain, smoothed } = await folders(t.testdir(), ['fp32', 'int4']);
  t.strictSame(await answers(t, smoothed, 'fp32'), await answers(t, plain, 'fp32'));
});
