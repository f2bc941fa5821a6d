/** Prompt exits of keys alone: logits of answers equal those of a reference in float64, also where they run again. */
import path from 'node:path';
import t, { type Test } from 'tap';
import { convert } from '../../src/convert/convert.js';
import { inspect } from '../../src/convert/inspect.js';
import type { Executor } from '../../src/engine/execution/executor.js';
import { chunksOnly } from '../../src/engine/execution/step-batch.js';
import type { KernelName } from '../../src/engine/model/manifest.js';
import { decodeRows, distance, makeExecutor, openSlot, rms } from '../engine/helper.js';
import { promptModel, writePromptModel, type PromptModel } from './prompt-models.js';
import { promptLogits } from './prompt-reference.js';

/** Largest difference of a logit in fp32, and root mean square of rounded weights and activations, on logits of 4. */
const BOUND = 1e-3;
const ROUNDED = 0.4;

const IDS = [3, 1, 40, 200, 17, 5, 90, 120, 263, 77, 3, 9, 8, 41, 250, 33];

async function converted(t: Test, model: PromptModel, kernel: KernelName = 'fp32'): Promise<string> {
  const dir = t.testdir();
  const out = path.join(dir, 'out');
  await convert({ source: writePromptModel(dir, model), out, kernels: [kernel], compress: false, force: false });
  return out;
}

/** Logits behind all ids: the prompt runs in chunks, and the answer as rows or, in chunks of `again`, once more. */
function logitsBehind(executor: Executor, prompt: number, again: number | null): Float32Array {
  const slot = openSlot(executor, IDS);
  const exit = executor.exit(1);
  const rows = again === null ? prompt - 1 : IDS.length - 1;
  while (slot.least(exit.needed) < rows) {
    const end = Math.min(rows, slot.least(exit.needed) + (again ?? 5));
    executor.run(chunksOnly({ slot, exit, end, answerFrom: prompt - 1 }));
  }
  for (let length = rows + 1; length <= IDS.length; length++) {
    slot.tokens = IDS.slice(0, length);
    decodeRows(executor, [{ slot, exit }]);
  }
  const logits = executor.head.fullLogits(0).slice();
  executor.table.drop(slot);
  return logits;
}

for (const [name, shape] of [
  ['Llama', { layers: 5, exit: 2 }],
  ['Qwen2', { layers: 4, exit: 3 }],
  ['Qwen3', { layers: 4, exit: 1 }],
] as const)
  void t.test(`${name} of ${shape.layers} layers, keys of prompts from ${shape.exit}`, async (t) => {
    const model = promptModel(name, { ...shape, group: 1, keysOnly: true });
    for (const kernel of ['fp32', 'w8a8'] as const)
      await t.test(kernel, async (t) => {
        const executor = await makeExecutor(t, { modelDir: await converted(t, model, kernel) });
        for (const prompt of [1, 2, 9, IDS.length]) {
          const trunk = Float32Array.from(promptLogits(model.weights, model.shape, IDS, false).at(-1) ?? []);
          const last = promptLogits(model.weights, model.shape, IDS, true, prompt - 1).at(-1) ?? [];
          const expected = Float32Array.from(last);
          if (prompt > 2) t.ok(distance(expected, trunk) > 100 * BOUND, 'the depths differ');
          for (const again of [null, 128, 4]) {
            const logits = logitsBehind(executor, prompt, again);
            const far = kernel === 'fp32' ? distance(logits, expected) : rms(logits, expected);
            t.ok(far < (kernel === 'fp32' ? BOUND : ROUNDED), `prompt of ${prompt}, chunks of ${again}: ${far}`);
          }
        }
      });
  });

void t.test('only keys and values are written beside the trunk', async (t) => {
  const model = promptModel('Llama', { layers: 6, exit: 2, group: 1, keysOnly: true });
  const { weightBytes, manifest } = await inspect(await converted(t, model));
  const floats = [...model.weights.values()].reduce((sum, { data }) => sum + data.length, 0);
  t.ok(weightBytes < 4 * floats + 50_000, `${weightBytes} bytes of ${floats} parameters`);
  t.match(manifest.prompt?.block, { layers: 4, prompt: { exit: 2, layers: 4, group: 1, answers: 'trunk' } });
});

void t.test('layers of keys alone share none', async (t) => {
  const model = promptModel('Llama', { layers: 6, exit: 2, group: 2, keysOnly: true });
  await t.rejects(converted(t, model), {
    message: /key_value_group_size must be 1 where answers have the projections/,
  });
});
