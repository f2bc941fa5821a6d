/** Looped models: every loop is an exit, whose logits equal those of a reference in float64 and of the public code. */
import path from 'node:path';
import t, { type Test } from 'tap';
import { convert } from '../../src/convert/convert.js';
import type { KernelName } from '../../src/model/manifest.js';
import { advanceTo, distance, logitsAt, makeExecutor, openSlot, rms } from '../engine/helper.js';
import { writeGoldenFolder } from './golden-model.js';
import { goldenLoops, LOOP_MODELS, loopShape, loopWeights, type GoldenLoops } from './golden-loops.js';
import { loopLogits } from './loop-reference.js';

/** Largest difference of a logit in fp32, and root mean squares of rounded weights and activations, on logits of 4. */
const BOUND = 1e-3;
const ROUNDED = { w8a8: 0.2, int4: 1.5 } as const;

function folderOf(t: Test, model: GoldenLoops, changes: Record<string, unknown> = {}): string {
  return writeGoldenFolder(path.join(t.testdir(), 'hf'), { ...model, prompts: [] }, changes, loopWeights(model));
}

/** Converts with all loops as exits; returns the folder. */
async function converted(source: string, kernel: KernelName = 'fp32'): Promise<string> {
  const out = path.join(source, '..', kernel);
  await convert({ source, out, kernels: [kernel], compress: false, force: false });
  return out;
}

const worst = (values: readonly number[]): number => values.reduce((most, value) => (value <= most ? most : value), 0);

for (const name of LOOP_MODELS)
  void t.test(name, async (t) => {
    const model = goldenLoops(name);
    const shape = loopShape(model);
    const references = model.prompts.map(({ ids }) => loopLogits(loopWeights(model), shape, ids));
    const expected = (prompt: number, loop: number, at: number): Float32Array =>
      Float32Array.from(references[prompt]?.[loop]?.[at] ?? []);

    await t.test('the reference equals the public code at every loop', (t) => {
      for (const [p, { positions }] of model.prompts.entries())
        for (const { at, loops } of positions)
          for (const [loop, { ids, logits }] of loops.entries()) {
            const row = expected(p, loop, at);
            const error = worst(ids.map((id, rank) => Math.abs((row[id] ?? NaN) - (logits[rank] ?? NaN))));
            t.ok(error < 1e-4, `prompt ${p}, position ${at}, loop ${loop + 1}: ${error}`);
          }
      t.end();
    });

    const source = folderOf(t, model);
    for (const kernel of ['fp32', 'w8a8', 'int4'] as const)
      await t.test(`${kernel}: prompt and decode at every loop`, async (t) => {
        const executor = await makeExecutor(t, { modelDir: await converted(source, kernel) });
        const [measure, bound] = kernel === 'fp32' ? [distance, BOUND] : [rms, ROUNDED[kernel]];
        for (const [p, { ids }] of model.prompts.entries())
          for (let loop = 0; loop < shape.loops; loop++) {
            const prefilled = [0, 1, 2, 7, ids.length - 1].map((at) => {
              const slot = openSlot(executor, ids.slice(0, at + 1));
              advanceTo(executor, slot, loop, at);
              const logits = logitsAt(executor, slot, loop);
              executor.table.drop(slot);
              return measure(logits, expected(p, loop, at));
            });
            t.ok(worst(prefilled) < bound, `prompt ${p}, loop ${loop + 1}: ${worst(prefilled)}`);
            const slot = openSlot(executor, ids.slice(0, 1));
            const decoded = ids.slice(0, 20).map((_, at) => {
              const error = measure(logitsAt(executor, slot, loop), expected(p, loop, at));
              slot.tokens.push(ids[at + 1] ?? 0);
              return error;
            });
            executor.table.drop(slot);
            t.ok(worst(decoded) < bound, `prompt ${p}, loop ${loop + 1}, decoded: ${worst(decoded)}`);
          }
      });
  });
