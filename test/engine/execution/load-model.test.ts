/** Options that do not fit a model folder: the error names the option. */
import { join } from 'node:path';
import t from 'tap';
import { loadModel } from '../../../src/engine/execution/load-model.js';
import type { EngineOptions } from '../../../src/engine/client/options.js';
import { loadManifest, MANIFEST_FILE } from '../../../src/model/manifest-io.js';
import { engineOptions } from '../helper.js';
import { tinyModel } from '../tiny-model.js';

void t.test('loadModel names the option that does not fit the folder or the memory', async (t) => {
  const modelDir = await tinyModel(t, 'float');
  const manifest = loadManifest(modelDir);
  const half = t.testdir({ [MANIFEST_FILE]: JSON.stringify({ ...manifest, kernels: ['fp16'], floatType: 'f16' }) });
  const wrong: [Partial<EngineOptions>, RegExp][] = [
    [{ kvMemoryBytes: 10 }, /^--kv-memory: 10 bytes are too few for a sequence; a position takes \d+$/],
    [{ kernels: [...manifest.kernels, 'fp16'] }, /^--kernels: the model offers [\w, ]+, not fp16$/],
    [{ device: 'cuda' }, /^--device cuda needs a model converted with --kernels fp16 or w8a16 or w4a16$/],
    [{ modelDir: half }, /^--device cpu cannot run the fp16 kernel/],
    [{ modelDir: join(half, 'none') }, /^there is no folder /],
  ];
  for (const [options, message] of wrong)
    await t.rejects(loadModel(engineOptions({ modelDir, ...options })), { message }, String(message));
});
