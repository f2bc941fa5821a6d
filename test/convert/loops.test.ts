/** Looped models: every loop is an exit, whose logits equal those of a reference in float64 and of the public code. */
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import t, { type Test } from 'tap';
import { convert } from '../../src/convert/convert.js';
import { inspect } from '../../src/convert/inspect.js';
import type { KernelName } from '../../src/engine/model/manifest.js';
import { advanceTo, distance, logitsAt, makeExecutor, openSlot, rms } from '../engine/helper.js';
import {
  goldenWeights,
  writeGoldenFolder,
  goldenLoops,
  LOOP_MODELS,
  loopShape,
  type GoldenLoops,
} from './golden-model.js';
import { loopLogits } from './reference.js';
import { gguf, ggufMetadata, SHAPE, tinyWeights, writeFolder, type Weights } from './tiny.js';

/** Largest difference of a logit in fp32, and root mean squares of rounded weights and activations, on logits of 4. */
const BOUND = 1e-3;
const ROUNDED = { w8a8: 0.2, int4: 1.5 } as const;

function folderOf(t: Test, model: GoldenLoops, changes: Record<string, unknown> = {}): string {
  return writeGoldenFolder(path.join(t.testdir(), 'hf'), model, changes);
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
    const references = model.prompts.map(({ ids }) => loopLogits(goldenWeights(model), shape, ids));
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

for (const [architecture, isBetween] of [
  ['nanbeige', true],
  ['nanbeige', false],
  ['ouro', true],
] as const)
  void t.test(`${architecture}, ${isBetween ? 'norm' : 'no norm'} between loops, from both formats`, async (t) => {
    const dir = t.testdir();
    const weights = tinyWeights(48, false);
    const gate: Weights = new Map();
    if (architecture === 'ouro') {
      for (let layer = 0; layer < SHAPE.layers; layer++)
        for (const norm of ['input_layernorm_2', 'post_attention_layernorm_2'])
          weights.set(`model.layers.${layer}.${norm}.weight`, {
            shape: [SHAPE.hidden],
            data: Float32Array.from({ length: SHAPE.hidden }, (_, i) => 1 + (i % 7) / 16),
          });
      gate.set('model.early_exit_gate.weight', { shape: [1, SHAPE.hidden], data: new Float32Array(SHAPE.hidden) });
      gate.set('model.early_exit_gate.bias', { shape: [1], data: new Float32Array(1) });
    }
    const config = {
      architectures: [architecture === 'ouro' ? 'OuroForCausalLM' : 'NanbeigeForCausalLM'],
      tie_word_embeddings: false,
      ...(architecture === 'ouro' ? { total_ut_steps: 2 } : { num_loops: 2, skip_loop_final_norm: !isBetween }),
    };
    const folder = writeFolder(path.join(dir, 'hf'), new Map([...weights, ...gate]), { config });
    const file = path.join(dir, 'model.gguf');
    const loops = { [`${architecture}.num_loops`]: 2, [`${architecture}.skip_loop_final_norm`]: !isBetween };
    writeFileSync(file, gguf(weights, { ...ggufMetadata(architecture), ...loops }));
    const shape = { ...SHAPE, loops: 2, theta: 10000, eps: 1e-5, betweenLoops: isBetween };
    const ids = [3, 1, 40, 200, 17, 5, 90, 120, 263];
    const reference = loopLogits(weights, shape, ids);
    for (const source of [folder, file]) {
      const out = path.join(dir, `${path.basename(source)}-out`);
      const { exits } = await convert({
        ...{ source, out, name: 'tiny', kernels: ['fp32'], compress: false, force: false },
      });
      const accuracy = exits.map(({ quality }) => quality.accuracy);
      // Ouro's figures are of four loops. One loop of Nanbeige has none, so the scheduler does not choose it.
      t.strictSame(accuracy, architecture === 'ouro' ? [undefined, undefined] : [0, 1]);
      const executor = await makeExecutor(t, { modelDir: out });
      const found = executor.units.exits.map(({ layer }) => layer);
      t.strictSame(found, [1, 2]);
      for (const loop of [0, 1]) {
        const slot = openSlot(executor, ids);
        advanceTo(executor, slot, loop, ids.length - 1);
        const error = distance(logitsAt(executor, slot, loop), Float32Array.from(reference[loop]?.at(-1) ?? []));
        t.ok(error < BOUND, `${path.basename(source)}, loop ${loop + 1}: ${error}`);
        executor.table.drop(slot);
      }
    }
  });

void t.test('loops share one copy of the weights, on disk and in sessions', async (t) => {
  const model = goldenLoops('ouro-4');
  const out = await converted(folderOf(t, model));
  const { graphs, tensors, weightBytes } = await inspect(out);
  const parameters = [...goldenWeights(model)].filter(([name]) => !name.includes('gate.'));
  const floats = parameters.reduce((sum, [, { data }]) => sum + data.length, 0);
  t.equal(graphs.filter(({ file }) => file.startsWith('loop')).length, 1, 'one graph for all loops');
  t.ok(tensors < 2 * parameters.length, `${tensors} tensors`);
  t.ok(weightBytes < 4 * floats + 100_000, `${weightBytes} bytes of ${floats} parameters`);
  const { model: loaded } = await makeExecutor(t, { modelDir: out });
  t.equal(new Set(loaded.stages.flatMap(({ sessions }) => [...sessions.values()])).size, 1);
});
