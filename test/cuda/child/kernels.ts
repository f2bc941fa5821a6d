/**
 * Loads model folders on `--device cuda`, one after the other, and marks each run of a unit in the trace: decode batches,
 * a chunk, and whole decode steps. Usage: kernels.js FOLDER...
 */
import { Executor } from '../../../src/engine/execution/executor.js';
import { loadModel } from '../../../src/engine/execution/load-model.js';
import { mark, liveRows } from './engine.js';

const ROWS = [1, 8, 17, 64];

for (const modelDir of process.argv.slice(2)) {
  const limits = { threads: 1, kvMemoryBytes: 2 ** 28, maxRunning: 64, maxQueue: 0, prefillChunk: 128 } as const;
  const options = { modelDir, device: 'cuda', ...limits, kernels: null, prefixReuse: false } as const;
  const executor = new Executor(await loadModel(options));
  const [kernel = 'fp16'] = executor.kernels;
  const context = executor.model.limits.capacity - 1;
  for (const rows of ROWS) {
    mark(`${modelDir} decode ${rows}`);
    executor.alone.rows(0, kernel, rows, 20);
    mark(`${modelDir} long ${rows}`);
    executor.alone.rows(0, kernel, rows, context);
    mark('end');
  }
  mark(`${modelDir} chunk`);
  executor.alone.chunk(0, kernel, 200, 100);
  mark('end');
  const live = liveRows(executor, 64);
  for (const rows of ROWS) {
    const batch = live.slice(0, rows);
    for (const [what, greedy] of [
      ['step', rows],
      ['sampled', 0],
    ] as const) {
      mark(`${modelDir} ${what} ${rows}`);
      executor.run({ chunks: [], rows: batch, draft: null }, (head) => {
        head.choose(greedy, rows - greedy);
      });
      mark('end');
      for (const { slot } of batch) slot.tokens.push(3);
    }
  }
  executor.dispose();
}
