/** A prompt exit that is added to a folder: both modes answer as the references, and the folder's files stay. */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import t, { type Test } from 'tap';
import { convert } from '../../src/convert/convert.js';
import type { ConvertOptions } from '../../src/convert/convert-options.js';
import { inspect } from '../../src/convert/inspect.js';
import { decodeRows, distance, makeExecutor, openSlot } from '../engine/helper.js';
import { promptModel, writePromptModel, type PromptModel } from './prompt-models.js';
import { promptLogits } from './prompt-reference.js';

const IDS = [3, 1, 40, 200, 17, 5, 90, 120];
/** Largest difference of a logit in fp32. */
const BOUND = 1e-3;

const model = promptModel('Llama', { layers: 5, exit: 2, group: 2 });

/** Converts full depth alone, and then adds the prompt exit of `other` to it. */
async function added(t: Test, options: Partial<ConvertOptions> = {}, other: PromptModel = model) {
  const dir = t.testdir({ own: {}, other: {} });
  const fixed = { kernels: ['fp32'], compress: true, force: false } as const;
  const onto = path.join(dir, 'full');
  const own = writePromptModel(path.join(dir, 'own'), model);
  await convert({ ...fixed, source: own, out: onto, modes: ['full'], exits: [2, 5] });
  const source = writePromptModel(path.join(dir, 'other'), other);
  const out = path.join(dir, 'both');
  const manifest = await convert({ ...fixed, source, out, onto, ...options });
  return { onto, out, manifest };
}

void t.test('both modes agree with the references', async (t) => {
  const { out } = await added(t);
  const executor = await makeExecutor(t, { modelDir: out });
  t.strictSame(
    executor.units.exits.map(({ layer, promptDepth }) => [layer, promptDepth !== null]),
    [
      [2, false],
      [5, false],
      [5, true],
    ],
  );
  for (const exit of [1, 2]) {
    const slot = openSlot(executor, [IDS[0] ?? 0]);
    for (let length = 1; length <= IDS.length; length++) {
      slot.tokens = IDS.slice(0, length);
      decodeRows(executor, [{ slot, exit: executor.exit(exit) }]);
    }
    const expected = Float32Array.from(promptLogits(model.weights, model.shape, IDS, exit === 2).at(-1) ?? []);
    t.ok(distance(executor.head.fullLogits(0).slice(), expected) < BOUND, `exit ${exit}`);
    executor.table.drop(slot);
  }
});

void t.test('the files of the folder stay, and new ones hold the own projections alone', async (t) => {
  const { onto, out } = await added(t, { name: 'other' });
  const before = await inspect(onto);
  const after = await inspect(out);
  for (const { path: name } of before.manifest.files)
    t.ok(readFileSync(path.join(onto, name)).equals(readFileSync(path.join(out, name))), name);
  const known = new Set(before.manifest.files.map(({ path: name }) => name));
  t.strictSame(
    after.manifest.files.map(({ path: name }) => name).filter((name) => !known.has(name)),
    ['prompt-2-keys.fp32.onnx', 'prompt-2.fp32.onnx', 'weights-001.bin.gz'],
  );
  const own = [...model.weights].filter(([name]) => name.includes('swiftkv'));
  const floats = own.reduce((sum, [, { data }]) => sum + data.length, 0);
  t.equal(after.weightBytes - before.weightBytes, 4 * floats);
  t.equal(after.manifest.name, 'other');
  t.match(after.manifest.prompt, { layer: 5, stage: 0, block: { layers: 2, prompt: { exit: 2, group: 2 } } });
});

void t.test('rejects what does not fit', async (t) => {
  const moved = { ...model, weights: new Map(model.weights) };
  const norm = moved.weights.get('model.layers.3.input_layernorm.weight');
  if (norm === undefined) throw new Error('the model needs the norm');
  moved.weights.set('model.layers.3.input_layernorm.weight', { ...norm, data: norm.data.map((value) => value * 2) });
  const cases: [Partial<ConvertOptions>, PromptModel, RegExp][] = [
    [{}, moved, /--onto must be the folder whose values the source was tuned on/],
    [
      {},
      promptModel('Llama', { layers: 5, exit: 3, group: 1 }),
      /--onto must be a folder with a stage that ends at .* 3/,
    ],
    [
      {},
      promptModel('Llama', { layers: 6, exit: 2, group: 1 }),
      /--onto must be a folder of the source's architecture/,
    ],
    [{ exits: [2, 5] }, model, /--onto must stand without --exits/],
  ];
  for (const [options, other, message] of cases)
    await t.test(message.source, async (t) => {
      await t.rejects(added(t, options, other), { message });
    });
});
