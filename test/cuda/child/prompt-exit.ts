/**
 * Runs a chunk of a prompt and a row of its answer on `--device cuda`, with the prompt exit on and off, and marks them in
 * the trace. Usage: prompt-exit.js KERNEL FOLDER...
 */
import { Executor } from '../../../src/engine/execution/executor.js';
import { loadModel } from '../../../src/engine/execution/load-model.js';
import { chunksOnly } from '../../../src/engine/execution/step-batch.js';
import type { StageKernel } from '../../../src/engine/model/manifest.js';
import { openSlot } from '../../engine/helper.js';
import { mark } from './engine.js';

const [kernel = 'fp16', ...folders] = process.argv.slice(2);
for (const [modelDir, name] of folders.flatMap((dir) => ['off', 'on'].map((name) => [dir, name] as const))) {
  const limits = { threads: 1, kvMemoryBytes: 2 ** 26, maxRunning: 4, maxQueue: 0, prefillChunk: 128 } as const;
  const kernels = [kernel as StageKernel];
  const options = {
    modelDir,
    device: 'cuda',
    ...limits,
    kernels,
    prefixReuse: false,
    promptExit: name === 'on',
  } as const;
  const executor = new Executor(await loadModel(options));
  const ids = Array.from({ length: 102 }, (_, i) => 3 + (i % 200));
  const exit = executor.exit(0);
  const slot = openSlot(executor, ids);
  mark(`${modelDir} ${name} chunk`);
  executor.run(chunksOnly({ slot, exit, end: 100 }));
  mark(`${modelDir} ${name} rest`);
  executor.run(chunksOnly({ slot, exit, end: 101 }));
  mark(`${modelDir} ${name} row`);
  executor.run({ chunks: [], rows: [{ slot, exit }], draft: null });
  executor.head.choose(1, 0);
  mark('end');
  executor.table.drop(slot);
  executor.dispose();
}
