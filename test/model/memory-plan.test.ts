/** The plan of a GPU's memory: its parts, and the refusal that names what fits. */
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { convert } from '../../src/convert/convert.js';
import { bytesPerPosition } from '../../src/engine/model/memory.js';
import { checkPlan, memoryPlan } from '../../src/engine/model/memory-plan.js';
import { loadManifest } from '../../src/engine/model/manifest-io.js';
import { StagedModel } from '../../src/engine/model/staged-model.js';
import { loadCompressedWeights } from '../../src/engine/model/weight-files.js';
import { cpuDevice } from '../../src/engine/runtime/device.js';
import { createEnvironment } from '../../src/engine/runtime/environment.js';
import { loopedModel, tinyModel } from '../engine/tiny-model.js';

const GIB = 2 ** 30;

void t.test('a plan larger than the free memory names the budget that fits', (t) => {
  const plan = { weights: 5 * GIB, kv: 16 * GIB, scratch: GIB };
  const check = (gib: number | null) => (): void => {
    checkPlan(plan, gib === null ? null : gib * GIB, 16 * GIB, GIB / 64);
  };
  for (const free of [22, null]) check(free)();
  t.throws(check(20), {
    message:
      '--device cuda: weights take 5.00 GiB, KV cache and states 16.00 GiB, the largest step 1.00 GiB, and the device has 20.00 GiB free; --kv-memory 14336MiB fits',
  });
  t.throws(check(6), { message: /the device has 6\.00 GiB free; no --kv-memory fits; convert with/ });
  t.end();
});

void t.test('the parts of a plan', async (t) => {
  const source = fileURLToPath(new URL('../../../test/golden/tiny', import.meta.url));
  const dir = t.testdir();
  const planOf = async (kernel: 'fp16' | 'w8a16', maxRows: number) => {
    const out = join(dir, kernel);
    const manifest = await convert({ source, out, kernels: [kernel], compress: false, force: true });
    return { manifest, plan: memoryPlan(out, manifest, [kernel], { maxRows, maxChunk: 128, page: 256, pages: 10 }) };
  };
  const { manifest, plan } = await planOf('fp16', 4);
  const { hidden, ffn, vocab, layers, heads, kvHeads, headDim, context } = manifest.architecture;
  const layer = hidden * (2 * (heads + kvHeads) * headDim + 3 * ffn) + 2 * hidden;
  // Tied embedding, norms of the head and its undone smoothing, rotary tables.
  const weights = 2 * (layers * layer + vocab * hidden + 2 * hidden + context * headDim);
  t.equal(plan.weights, weights);
  t.equal(plan.kv - 11 * 256 * bytesPerPosition(manifest), 2 * 261 * 2 * hidden);
  t.ok((await planOf('fp16', 64)).plan.scratch > plan.scratch);
  t.ok((await planOf('w8a16', 4)).plan.weights < plan.weights);
});

const SLOTS = 3;
const CAPACITY = 20;

/** Bytes that a model allocates on its device. */
async function allocated(dir: string): Promise<number> {
  const manifest = loadManifest(dir);
  const environment = createEnvironment(1);
  const device = cpuDevice(environment);
  let bytes = 0;
  const alloc = (size: number): bigint => {
    bytes += size;
    return device.alloc(size);
  };
  const limits = { slots: SLOTS, capacity: CAPACITY, maxRows: 1, maxChunk: 1 };
  const weights = await loadCompressedWeights(dir, manifest);
  const source = { dir, manifest, environment, kernels: manifest.kernels, weights };
  new StagedModel(source, { ...device, alloc }, limits).dispose();
  return bytes;
}

void t.test(
  'a device that commits memory at allocation takes bytesPerPosition for each position of a slot',
  async (t) => {
    for (const dir of [await loopedModel(t), await tinyModel(t, 'float'), await tinyModel(t, 'int8')]) {
      const manifest = loadManifest(dir);
      t.equal(await allocated(dir), bytesPerPosition(manifest) * SLOTS * CAPACITY, manifest.name);
    }
  },
);
