/**
 * Batches that are filled up to a bucket, as captured graphs need them: the logits are those of the batch alone. WebGPU
 * runs such a batch without a capture, so it shows the numbers that the fake CUDA libraries do not compute.
 */
import t from 'tap';
import { Executor } from '../../src/engine/execution/executor.js';
import { loadManifest } from '../../src/engine/model/manifest-io.js';
import type { StageKernel } from '../../src/engine/model/manifest.js';
import { PagedModel } from '../../src/engine/model/paged-model.js';
import { createEnvironment } from '../../src/engine/runtime/environment.js';
import { webgpuDevice } from '../../src/engine/runtime/webgpu.js';
import { advanceTo, decodeRows, openSlot, rms } from '../engine/helper.js';
import { needsGpu, tinyFolder, tokens } from './helper.js';

if (needsGpu()) {
  const dir = await tinyFolder(t)('fp16');
  const manifest = loadManifest(dir);
  const environment = createEnvironment(1);
  const load = (kernel: StageKernel): Executor => {
    const source = { dir, manifest, environment, kernels: [kernel], weights: new Map<string, Uint8Array>() };
    const limits = { slots: 6, maxRows: 6, capacity: 256, maxChunk: 128, pages: 12, page: 64 };
    return new Executor(new PagedModel(source, webgpuDevice(environment), limits));
  };

  /** Steps of 1, 3 and 5 rows at every exit. @returns logits */
  const course = (executor: Executor): Float32Array[] => {
    const deepest = executor.units.deepest;
    const slots = [70, 3, 130, 40, 64].map((length, i) => openSlot(executor, tokens(length, i)));
    for (const slot of slots) advanceTo(executor, slot, deepest, slot.tokens.length - 1);
    const found: Float32Array[] = [];
    for (const rows of [5, 1, 3, 5, 3]) {
      const batch = slots.slice(0, rows).map((slot, i) => ({ slot, exit: executor.exit((i + rows) % (deepest + 1)) }));
      decodeRows(executor, batch);
      found.push(...batch.map((_, row) => executor.head.fullLogits(row).slice()));
      // Deeper units catch up over the kept states.
      for (const slot of slots) advanceTo(executor, slot, deepest, slot.tokens.length - 1);
      for (const { slot } of batch) slot.tokens.push(5 + found.length);
      for (const { slot } of batch) advanceTo(executor, slot, deepest, slot.tokens.length - 1);
    }
    return found;
  };

  void t.test('logits of filled batches', (t) => {
    const [plain, filled] = [load('fp16'), load('fp16-graph')];
    const [expected, found] = [course(plain), course(filled)];
    t.equal(found.length, 17);
    t.same(filled.kernels, ['fp16-graph'], 'the only kernel');
    expected.forEach((logits, i) => {
      const error = rms(logits, found[i] ?? new Float32Array(0));
      t.ok(error <= 1e-3, `position ${i}: rms ${error}`);
    });
    for (const executor of [plain, filled]) executor.dispose();
    t.end();
  });
}
