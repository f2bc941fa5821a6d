/**
 * Runs a chunk of a prompt and a row of its answer at full depth and behind the prompt exit on `--device cuda`, and marks
 * them in the trace. Usage: prompt-exit.js KERNEL FOLDER...
 */
import { Executor } from '../../../src/engine/execution/executor.js';
import { loadModel } from '../../../src/engine/execution/load-model.js';
import { chunksOnly } from '../../../src/engine/execution/step-batch.js';
import type { StageKernel } from '../../../src/engine/model/manifest.js';
import { openSlot } from '../../engine/helper.js';
import { mark } from './fake.js';

const [kernel = 'fp16', ...folders] = process.argv.slice(2);
for (const modelDir of folders) {
  const limits = { threads: 1, kvMemoryBytes: 2 ** 26, maxRunning: 4, maxQueue: 0, prefillChunk: 128 } as const;
  const kernels = [kernel as StageKernel];
  const executor = new Executor(await loadModel({ modelDir, device: 'cuda', ...limits, kernels, prefixReuse: false }));
  const ids = Array.from({ length: 102 }, (_, i) => 3 + (i % 200));
  for (const [index, name] of ['full', 'prompt'].entries()) {
    const exit = executor.exit(index);
    const slot = openSlot(executor, ids);
    mark(`${modelDir} ${name} chunk`);
    executor.run(chunksOnly({ slot, exit, end: 100, answerFrom: 101 }));
    mark(`${modelDir} ${name} rest`);
    executor.run(chunksOnly({ slot, exit, end: 101, answerFrom: 101 }));
    mark(`${modelDir} ${name} row`);
    executor.run({ chunks: [], rows: [{ slot, exit }], draft: null });
    executor.head.choose(1, 0);
    mark('end');
    executor.table.drop(slot);
  }
  executor.dispose();
}
