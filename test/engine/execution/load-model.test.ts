/** What a model folder and the options can't be loaded with, told by the option. */
import { join } from 'node:path';
import t from 'tap';
import { loadModel } from '../../../src/engine/execution/load-model.js';
import type { EngineOptions } from '../../../src/engine/client/options.js';
import { loadManifest, MANIFEST_FILE } from '../../../src/model/manifest-io.js';
import { engineOptions } from '../helper.js';
import { tinyModel } from '../tiny-model.js';

void t.test('an option that the folder has no part for, or no room, is named', async (t) => {
  const modelDir = await tinyModel(t, 'float');
  const manifest = loadManifest(modelDir);
  const half = t.testdir({ [MANIFEST_FILE]: JSON.stringify({ ...manifest, floatType: 'f16' }) });
  const wrong: [Partial<EngineOptions>, RegExp][] = [
    [{ kvMemoryBytes: 10 }, /^--kv-memory: 10 bytes hold no sequence; a position takes \d+$/],
    [{ kernels: [...manifest.kernels, 'fp16'] }, /^--kernels: the model offers [\w, ]+, not fp16$/],
    [{ device: 'cuda' }, /^--device cuda needs a model converted with --kernels fp16$/],
    [{ modelDir: half }, /^--device cpu cannot run the fp16 kernel/],
    [{ modelDir: join(half, 'none') }, /^cannot read /],
  ];
  for (const [options, message] of wrong)
    await t.rejects(loadModel(engineOptions({ modelDir, ...options })), { message }, String(message));
});
