/**
 * Prompt exits: logits equal those of a reference in float64, at every position and on every way, with the exit on and
 * off.
 */
import path from 'node:path';
import t, { type Test } from 'tap';
import { convert } from '../../src/convert/convert.js';
import { inspect } from '../../src/convert/inspect.js';
import type { Executor } from '../../src/engine/execution/executor.js';
import type { KernelName } from '../../src/engine/model/manifest.js';
import { decodeRows, distance, makeExecutor, openSlot, rms } from '../engine/helper.js';
import { promptModel, writePromptModel, type PromptModel } from './prompt-models.js';
import { promptLogits } from './reference.js';
import { inChunks, WAYS, worstOf } from './ways.js';

/** Largest difference of a logit in fp32, and root mean squares of rounded weights and activations, on logits of 4. */
const BOUND = 1e-3;
const ROUNDED = { w8a8: 0.4, int4: 1.5 } as const;

const IDS = [3, 1, 40, 200, 17, 5, 90, 120, 263, 77, 3, 9, 8, 41, 250, 33];

async function converted(t: Test, model: PromptModel, kernel: KernelName = 'fp32', exits?: number[]) {
  const dir = t.testdir();
  const source = writePromptModel(dir, model);
  const out = path.join(dir, 'out');
  await convert({ ...(exits && { exits }), source, out, kernels: [kernel], compress: false, force: false });
  return out;
}

function check(t: Test, executor: Executor, exit: number, expected: readonly Float64Array[], rounded?: number): void {
  const ends = [...IDS.keys()];
  for (const [name, way] of Object.entries(WAYS)) {
    const worst = worstOf(executor, exit, IDS, ends, way, (logits, i) =>
      (rounded ? rms : distance)(logits, Float32Array.from(expected[i] ?? [])),
    );
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
    const expected = promptLogits(model.weights, model.shape, IDS);
    // One model of each class.
    const rounded = shape.exit < 3 && shape.group > 1 ? (['w8a8', 'int4'] as const) : [];
    for (const kernel of ['fp32', ...rounded] as const) {
      const modelDir = await converted(t, model, kernel);
      for (const promptExit of [true, false])
        await t.test(`${kernel}, ${promptExit ? 'on' : 'off'}`, async (t) => {
          const executor = await makeExecutor(t, { modelDir, promptExit });
          const isKnown = executor.units.stages.map(({ keys }) => keys !== undefined);
          t.strictSame(isKnown, [false, promptExit], 'a prompt makes keys and values alone');
          check(t, executor, 0, expected, kernel === 'fp32' ? undefined : ROUNDED[kernel]);
        });
    }
  });

void t.test('an exit in front of the prompt exit, and a sequence that goes deeper', async (t) => {
  const model = promptModel('Llama', { layers: 5, exit: 3, group: 1 });
  const modelDir = await converted(t, model, 'fp32', [1, 5]);
  const early: Float32Array[] = [];
  for (const promptExit of [true, false]) {
    const executor = await makeExecutor(t, { modelDir, promptExit });
    const exits = executor.units.exits.map(({ layer, stage }) => `${layer} at ${stage}`);
    t.strictSame(exits, ['1 at 0', '5 at 1']);
    const slot = openSlot(executor, IDS);
    inChunks(executor, slot, 0, IDS.length - 1, 128);
    decodeRows(executor, [{ slot, exit: executor.exit(0) }]);
    early.push(executor.head.fullLogits(0).slice());
    slot.truncate(IDS.length - 1);
    // All units catch up over the states that it kept.
    inChunks(executor, slot, 1, IDS.length - 1, 7);
    decodeRows(executor, [{ slot, exit: executor.exit(1) }]);
    const expected = Float32Array.from(promptLogits(model.weights, model.shape, IDS).at(-1) ?? []);
    t.ok(distance(executor.head.fullLogits(0).slice(), expected) < BOUND);
  }
  t.strictSame(early[0], early[1]);
});

void t.test('a group of layers has one KV cache', async (t) => {
  const model = promptModel('Llama', { layers: 6, exit: 2, group: 3 });
  const { manifest, graphs } = await inspect(await converted(t, model));
  const prompt = { exit: 2, layers: 4, group: 3 };
  t.match(manifest.exits, [{ layer: 6, stage: 0, block: { name: 'prompt-2', boundary: 1, layers: 2, prompt } }]);
  const files = graphs.map(({ file }) => file);
  t.ok(files.includes('prompt-2-keys.fp32.onnx'), files.join(', '));
});
