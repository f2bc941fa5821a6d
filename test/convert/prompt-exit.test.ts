/** Prompt exits: logits of both modes equal those of a reference in float64, at every position and on every way. */
import path from 'node:path';
import t, { type Test } from 'tap';
import { convert } from '../../src/convert/convert.js';
import { inspect } from '../../src/convert/inspect.js';
import type { Mode } from '../../src/convert/convert-options.js';
import type { Executor } from '../../src/engine/execution/executor.js';
import type { KernelName } from '../../src/engine/model/manifest.js';
import { decodeRows, distance, makeExecutor, openSlot, rms } from '../engine/helper.js';
import { promptModel, writePromptModel, type PromptModel } from './prompt-models.js';
import { promptLogits } from './prompt-reference.js';
import { inChunks, WAYS } from './prompt-ways.js';

/** Largest difference of a logit in fp32, and root mean squares of rounded weights and activations, on logits of 4. */
const BOUND = 1e-3;
const ROUNDED = { w8a8: 0.4, int4: 1.5 } as const;

const IDS = [3, 1, 40, 200, 17, 5, 90, 120, 263, 77, 3, 9, 8, 41, 250, 33];

async function converted(t: Test, model: PromptModel, modes?: Mode, kernel: KernelName = 'fp32', exits?: number[]) {
  const dir = t.testdir();
  const source = writePromptModel(dir, model);
  const out = path.join(dir, 'out');
  const options = { ...(modes && { modes: [modes] }), ...(exits && { exits }) };
  await convert({ ...options, source, out, kernels: [kernel], compress: false, force: false });
  return out;
}

/** Decodes the last of several numbers of positions in one step, each in a slot of its own. */
function check(t: Test, executor: Executor, exit: number, expected: readonly Float64Array[], rounded?: number): void {
  for (const [name, way] of Object.entries(WAYS)) {
    let worst = 0;
    for (let first = 0; first < IDS.length; first += 4) {
      const rows = IDS.slice(first, first + 4).map((_, i) => {
        const slot = openSlot(executor, IDS.slice(0, first + i + 1));
        way(executor, slot, exit, first + i);
        return { slot, exit: executor.exit(exit) };
      });
      decodeRows(executor, rows);
      for (const [row] of rows.entries()) {
        const reference = Float32Array.from(expected[first + row] ?? []);
        worst = Math.max(worst, (rounded ? rms : distance)(executor.head.fullLogits(row).slice(), reference));
      }
      for (const { slot } of rows) executor.table.drop(slot);
    }
    t.ok(worst < (rounded ?? BOUND), `${name}: ${worst}`);
  }
}

for (const [name, shape] of [
  ['Llama', { layers: 4, exit: 2, group: 1 }],
  ['Llama', { layers: 6, exit: 1, group: 2, tied: false }],
  ['Llama', { layers: 5, exit: 3, group: 4 }],
  ['Qwen2', { layers: 5, exit: 2, group: 3 }],
  ['Qwen2', { layers: 3, exit: 2, group: 1 }],
  ['Qwen3', { layers: 5, exit: 2, group: 2 }],
] as const)
  void t.test(`${name} of ${shape.layers} layers, prompts of ${shape.exit}, groups of ${shape.group}`, async (t) => {
    const model = promptModel(name, shape);
    const [on = [], off = []] = [true, false].map((isOn) => promptLogits(model.weights, model.shape, IDS, isOn));
    const apart = distance(Float32Array.from(on.at(-1) ?? []), Float32Array.from(off.at(-1) ?? []));
    t.ok(apart > 100 * BOUND, `the modes differ by ${apart}`);
    await t.test('both modes in one folder', async (t) => {
      const executor = await makeExecutor(t, { modelDir: await converted(t, model) });
      check(t, executor, 0, off);
      check(t, executor, 1, on);
    });
    for (const mode of ['full', 'prompt'] as const)
      await t.test(`${mode} alone`, async (t) => {
        const executor = await makeExecutor(t, { modelDir: await converted(t, model, mode) });
        check(t, executor, 0, mode === 'prompt' ? on : off);
      });
    // One model of each class.
    for (const kernel of shape.exit < 3 && shape.group > 1 ? (['w8a8', 'int4'] as const) : [])
      await t.test(kernel, async (t) => {
        const executor = await makeExecutor(t, { modelDir: await converted(t, model, undefined, kernel) });
        check(t, executor, 0, off, ROUNDED[kernel]);
        check(t, executor, 1, on, ROUNDED[kernel]);
      });
  });

void t.test('exits in front of the prompt exit answer as in the other mode', async (t) => {
  const model = promptModel('Llama', { layers: 5, exit: 3, group: 1 });
  const logits: Float32Array[] = [];
  for (const mode of ['full', 'prompt'] as const)
    await t.test(mode, async (t) => {
      const executor = await makeExecutor(t, { modelDir: await converted(t, model, mode, 'fp32', [1, 5]) });
      t.strictSame(
        executor.units.exits.map(({ layer }) => layer),
        [1, 5],
      );
      const slot = openSlot(executor, IDS);
      inChunks(executor, slot, 0, IDS.length - 1, 128);
      decodeRows(executor, [{ slot, exit: executor.exit(0) }]);
      logits.push(executor.head.fullLogits(0).slice());
      slot.truncate(IDS.length - 1);
      // The sequence goes deeper: all units catch up over the states that it kept.
      inChunks(executor, slot, 1, IDS.length - 1, 7);
      decodeRows(executor, [{ slot, exit: executor.exit(1) }]);
      const expected = promptLogits(model.weights, model.shape, IDS, mode === 'prompt').at(-1) ?? [];
      t.ok(distance(executor.head.fullLogits(0).slice(), Float32Array.from(expected)) < BOUND);
    });
  t.strictSame(logits[0], logits[1]);
});

void t.test('a group of layers has one KV cache', async (t) => {
  const model = promptModel('Llama', { layers: 6, exit: 2, group: 3 });
  const { manifest, graphs } = await inspect(await converted(t, model));
  const { block } = manifest.prompt ?? {};
  t.match(block, { name: 'prompt-2', boundary: 1, layers: 2, prompt: { exit: 2, layers: 4, group: 3 } });
  const files = graphs.map(({ file }) => file);
  t.ok(files.includes('prompt-2-keys.fp32.onnx'), files.join(', '));
});

void t.test('both modes share the weights that are the same', async (t) => {
  const model = promptModel('Qwen2', { layers: 6, exit: 2, group: 2 });
  const { weightBytes } = await inspect(await converted(t, model));
  const floats = [...model.weights.values()].reduce((sum, { data }) => sum + data.length, 0);
  t.ok(weightBytes < 4 * floats + 50_000, `${weightBytes} bytes of ${floats} parameters`);
});

void t.test('rows of both modes and of an exit between them share a step', async (t) => {
  const model = promptModel('Llama', { layers: 5, exit: 2, group: 2 });
  const executor = await makeExecutor(t, { modelDir: await converted(t, model, undefined, 'fp32', [1, 2, 4, 5]) });
  t.strictSame(
    executor.units.exits.map(({ layer, stage, promptDepth }) => [layer, stage, promptDepth]),
    [
      [1, 0, null],
      [2, 1, null],
      [4, 2, null],
      [5, 3, null],
      [5, 1, 2],
    ],
  );
  const order = [4, 1, 3, 0, 4, 2, 3, 4];
  const alone = order.map((exit, i) => {
    const slot = openSlot(executor, IDS.slice(0, 8 + i));
    inChunks(executor, slot, exit, 7 + i, 128);
    decodeRows(executor, [{ slot, exit: executor.exit(exit) }]);
    const logits = executor.head.fullLogits(0).slice();
    slot.truncate(7 + i);
    return { slot, exit: executor.exit(exit), logits };
  });
  decodeRows(executor, alone);
  for (const [row, { logits }] of alone.entries())
    t.ok(distance(executor.head.fullLogits(row).slice(), logits) < BOUND, `row ${row}, exit ${order[row]}`);
});

void t.test('w8a8 and the int8 form of its graphs agree', async (t) => {
  const model = promptModel('Llama', { layers: 4, exit: 2, group: 2 });
  const out = await converted(t, model, 'prompt', 'w8a8');
  const logits: Float32Array[] = [];
  for (const kernels of [['w8a8'], ['int8']] as const)
    await t.test(kernels[0], async (t) => {
      const executor = await makeExecutor(t, { modelDir: out, kernels });
      const slot = openSlot(executor, IDS);
      inChunks(executor, slot, 0, IDS.length - 1, 9);
      decodeRows(executor, [{ slot, exit: executor.exit(0) }]);
      logits.push(executor.head.fullLogits(0).slice());
    });
  const [a = new Float32Array(), b = new Float32Array()] = logits;
  t.ok(a.length > 0 && rms(a, b) < ROUNDED.w8a8, `${rms(a, b)}`);
});
