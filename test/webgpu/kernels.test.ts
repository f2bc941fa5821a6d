/**
 * Weights of 8 and 4 bits with activations in fp16, on a GPU.
 *
 * - w4a16 against the same 4-bit weights on the CPU, computed in fp32: the bounds of fp16 (logits.test.ts).
 * - w8a16 against weights in fp32: an rms of 5e-2 of logits up to 3. Rounding to 8 bits costs 1e-2 to 3e-2 here.
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { Executor } from '../../src/engine/execution/executor.js';
import { logitsBehind, rms, rmsShare } from '../engine/helper.js';
import { blocksModel } from '../engine/tiny-model.js';
import { loaded, needsGpu, tokens } from './helper.js';
import { convert } from '../../src/convert/convert.js';
import { GOLDEN_MODELS, goldenModel, writeGoldenFolder } from '../convert/golden-model.js';

const SAME_WEIGHTS = { mean: 5e-3, worst: 1e-2 };
const ROUNDED_WEIGHTS = { mean: 5e-2, worst: 5e-2 };

/** The attribute `accuracy_level` of a node in a graph's bytes: 4 rounds the inputs to 8 bits, 1 keeps fp32. */
const ROUNDED = Buffer.from('accuracy_level\x18\x04', 'latin1');
const EXACT = Buffer.from('accuracy_level\x18\x01', 'latin1');

/** Makes all products of an int4 folder compute in fp32. @returns number of products */
function computeExactly(folder: string): number {
  let count = 0;
  for (const name of readdirSync(folder).filter((each) => each.endsWith('.onnx'))) {
    const graph = readFileSync(join(folder, name));
    for (let at = graph.indexOf(ROUNDED); at >= 0; at = graph.indexOf(ROUNDED, at), count++) EXACT.copy(graph, at);
    writeFileSync(join(folder, name), graph);
  }
  return count;
}

if (needsGpu()) {
  const load = async (modelDir: string, device: 'cpu' | 'webgpu'): Promise<Executor> =>
    loaded(t, { modelDir, device, maxRunning: 4 });

  for (const [kernel, reference, bound] of [
    ['w4a16', 'int4', SAME_WEIGHTS],
    ['w8a16', 'fp32', ROUNDED_WEIGHTS],
  ] as const)
    void t.test(`${kernel} against ${reference} on the CPU`, async (t) => {
      const expectedDir = await blocksModel(t, reference);
      if (reference === 'int4') t.equal(computeExactly(expectedDir), 5 * 8 + 1, 'products of 8 layers and of the head');
      const cpu = await load(expectedDir, 'cpu');
      const gpu = await load(await blocksModel(t, kernel), 'webgpu');
      const errors: number[] = [];
      for (const exit of cpu.units.exits.keys())
        for (const length of [1, 31, 64, 150]) {
          const [expected, found] = logitsBehind([cpu, gpu], tokens(length, exit), exit);
          const error = rms(expected, found);
          errors.push(error);
          t.ok(error <= bound.worst, `exit ${exit}, ${length} positions: rms ${error}`);
        }
      const mean = Math.sqrt(errors.reduce((sum, each) => sum + each * each, 0) / errors.length);
      t.ok(mean <= bound.mean, `rms ${mean} over all positions`);
      t.comment(`${kernel}: rms ${mean.toExponential(1)}, at most ${Math.max(...errors).toExponential(1)}`);
    });
}

// Each architecture that a GPU serves, in fp16 against the CPU in fp32; the others are rejected by name.

/** Of logits up to 20: some models have weights of large norms. */
const SHARE = 5e-3;

if (needsGpu()) {
  for (const name of GOLDEN_MODELS) {
    void t.test(name, async (t) => {
      const model = goldenModel(name);
      const dir = t.testdir();
      const source = writeGoldenFolder(join(dir, 'source'), model);
      const options = { source, compress: false, force: false, ...(model.context && { context: model.context }) };
      const folder = async (kernel: 'fp32' | 'fp16'): Promise<string> => {
        const out = join(dir, kernel);
        await convert({ ...options, out, kernels: [kernel] });
        return out;
      };
      const load = async (modelDir: string, device: 'cpu' | 'webgpu'): Promise<Executor> =>
        loaded(t, { modelDir, device, maxRunning: 2 });
      const cpu = await load(await folder('fp32'), 'cpu');
      const { softcap, queryGrowth, pattern, context } = cpu.model.manifest.architecture;
      const hasWindow = pattern.some(({ window }) => window !== null && window < context);
      if (softcap !== null || queryGrowth !== null || hasWindow) {
        const rejected = folder('fp16').then((gpu) => load(gpu, 'webgpu'));
        await t.rejects(rejected, { message: /--(device webgpu|kernels fp16) has no .*, (which|and) this model / });
      } else {
        const gpu = await load(await folder('fp16'), 'webgpu');
        for (const { ids } of model.prompts) {
          const [expected, found] = logitsBehind([cpu, gpu], ids, 0);
          const error = rmsShare(expected, found);
          t.ok(error <= SHARE, `${ids.length} positions: rms ${error} of the largest logit`);
        }
      }
    });
  }
}
