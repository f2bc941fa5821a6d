/**
 * Smooths the head of a model whose input has outlier channels: embeddings stay equal, and logits in bytes come closer
 * to logits in floats. Runs the real graphs.
 */
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import t, { type Test } from 'tap';
import { convert } from '../../../src/convert/convert.js';
import type { ConvertOptions } from '../../../src/convert/convert-options.js';
import { hostF32 } from '../../../src/engine/runtime/tensor.js';
import { advanceTo, distance, logitsAt, makeExecutor, openSlot, slotParts } from '../../engine/helper.js';
import { random, safetensors, SHAPE, tinyWeights, writeFolder, type Weight } from '../tiny.js';

const { hidden } = SHAPE;
const OUTLIER = 256;
const CHANNEL = 21;
const PROMPT = Array.from({ length: 24 }, (_, i) => 2 + ((i * 37) % 200));

/** A model whose final norm makes one channel large, converted with each set of options. */
async function folders(t: Test, tied: boolean, ...each: Partial<ConvertOptions>[]): Promise<string[]> {
  const dir = t.testdir();
  const weights = tinyWeights(5, tied);
  const norm = weights.get('model.norm.weight');
  const head = weights.get(tied ? 'model.embed_tokens.weight' : 'lm_head.weight');
  for (let i = CHANNEL; norm && i < norm.data.length; i += hidden) norm.data[i] = OUTLIER;
  for (let i = CHANNEL; head && i < head.data.length; i += hidden) head.data[i] = (head.data[i] ?? 0) / OUTLIER;
  const moments: Weight = { shape: [hidden, hidden], data: new Float32Array(hidden * hidden) };
  for (let i = 0; i < hidden; i++) moments.data[i * hidden + i] = i === CHANNEL ? OUTLIER ** 2 : 1;
  const calibration = path.join(dir, 'calibration.safetensors');
  writeFileSync(calibration, safetensors(['head_in', 'layers.0.attn_in'].map((name) => [`${name}.hessian`, moments])));
  const source = writeFolder(path.join(dir, 'hf'), weights);
  const made: string[] = [];
  for (const [i, { calibration: smoothed, ...options }] of each.entries()) {
    const out = path.join(dir, `out-${i}`);
    await convert({
      ...{ source, out, exits: [1, 3], kernels: ['fp32', 'w8a8'], compress: false, force: false },
      ...options,
      ...(smoothed !== undefined && { calibration }),
    });
    made.push(out);
  }
  return made;
}

/** Logits at full depth with stages in floats: only embedding and head may be in bytes. */
async function answer(t: Test, modelDir: string): Promise<Float32Array> {
  const executor = await makeExecutor(t, { modelDir, kernels: ['fp32'], kvMemoryBytes: 2 ** 24 });
  const slot = openSlot(executor, PROMPT);
  advanceTo(executor, slot, 1, PROMPT.length - 1);
  return logitsAt(executor, slot, 1);
}

/** Logits of given hidden states, by the head alone. */
async function headAnswer(t: Test, modelDir: string): Promise<Float32Array> {
  const executor = await makeExecutor(t, { modelDir, kernels: ['fp32'], kvMemoryBytes: 2 ** 24 });
  const { model, head } = slotParts(executor);
  const next = random(3);
  const states = hostF32(hidden);
  states.data.forEach((_, i) => (states.data[i] = next()));
  model.device.copy(head.input(0), states.address, model.hiddenBytes);
  head.norms[0] = 0n;
  head.logits(1);
  return head.fullLogits(0).slice();
}

for (const tied of [true, false])
  void t.test(`${tied ? 'tied' : 'own'} head: smoothing reduces the error of bytes`, async (t) => {
    const [exact, plain, smoothed] = await folders(t, tied, { kernels: ['fp32'] }, {}, { calibration: 'yes' });
    const expected = await headAnswer(t, exact ?? '');
    const before = distance(await headAnswer(t, plain ?? ''), expected);
    const after = distance(await headAnswer(t, smoothed ?? ''), expected);
    t.ok(after < before / 4, `${before} before, ${after} after`);
  });

void t.test('an embedding that shares the smoothed weight keeps its values', async (t) => {
  const [exact, smoothed] = await folders(t, true, { kernels: ['fp32'] }, { calibration: 'yes' });
  const expected = await answer(t, exact ?? '');
  const scale = Math.max(...expected.map(Math.abs));
  const error = distance(await answer(t, smoothed ?? ''), expected);
  t.ok(error < 0.05 * scale, `${error} of ${scale}`);
});
