import t from 'tap';
import { loadManifest } from '../../src/engine/model/manifest-io.js';
import { allocatedPerPosition } from '../../src/engine/model/memory.js';
import { StagedModel } from '../../src/engine/model/staged-model.js';
import { loadCompressedWeights } from '../../src/engine/model/weight-files.js';
import { cpuDevice } from '../../src/engine/runtime/device.js';
import { createEnvironment } from '../../src/engine/runtime/environment.js';
import { MODEL } from '../engine/helper.js';
import { tinyModel } from '../engine/tiny-model.js';

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
  'a device that commits memory at allocation takes allocatedPerPosition for each position of a slot',
  async (t) => {
    for (const dir of [MODEL, await tinyModel(t, 'float'), await tinyModel(t, 'int8')]) {
      const manifest = loadManifest(dir);
      t.equal(await allocated(dir), allocatedPerPosition(manifest) * SLOTS * CAPACITY, manifest.name);
    }
  },
);
