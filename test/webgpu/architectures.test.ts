/** Each architecture that a GPU serves, in fp16 against the CPU in fp32; the others are rejected by name. */
import { join } from 'node:path';
import t from 'tap';
import { convert } from '../../src/convert/convert.js';
import type { Executor } from '../../src/engine/execution/executor.js';
import { GOLDEN_MODELS, goldenModel, writeGoldenFolder } from '../convert/golden-model.js';
import { logitsBehind, rmsShare } from '../engine/helper.js';
import { loaded, needsGpu } from './helper.js';

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
