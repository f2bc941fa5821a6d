/** Options that do not fit a model folder: the error names the option. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { loadModel } from '../../../src/engine/execution/load-model.js';
import type { EngineOptions } from '../../../src/protocol/engine-options.js';
import { loadManifest, MANIFEST_FILE } from '../../../src/engine/model/manifest-io.js';
import { EngineClient } from '../../../src/gateway/engine-client/client.js';
import { answerOf } from '../../../bench/greedy-request.js';
import { engineOptions, greedy, holdProcess } from '../helper.js';
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

void t.test('a kernel that fails to load leaves the others, and the last one is an error', async (t) => {
  const modelDir = await tinyModel(t, 'float', ['w8a8', 'fp32']);
  const { stages } = loadManifest(modelDir);
  const graph = (kernel: 'w8a8' | 'fp32'): string => stages.at(-1)?.graphs[kernel] ?? '';
  writeFileSync(join(modelDir, graph('fp32')), 'not a graph');
  holdProcess(t);
  const engine = new EngineClient(engineOptions({ modelDir }));
  t.teardown(() => engine.close());
  const { kernels, kernelFaults, exits } = await engine.start();
  t.strictSame(kernels, ['w8a8']);
  let tokens = 0;
  const request = greedy('served', [5, 6, 7], exits.at(-1) ?? 0, 4);
  const { reason } = await answerOf(engine, request, () => tokens++);
  t.strictSame([tokens, reason], [4, 'length']);
  t.match(kernelFaults, [/^fp32: .*fp32\.onnx/]);
  writeFileSync(join(modelDir, graph('w8a8')), 'not a graph');
  await t.rejects(loadModel(engineOptions({ modelDir })), { message: /fp32\.onnx/ });
});
