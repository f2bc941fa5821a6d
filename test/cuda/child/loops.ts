/**
 * Decodes at each exit in turn on `--device cuda`, and marks the steps in which all rows decode by their exit. Prints a
 * line of JSON. Usage: loops.js MODEL KERNEL ROWS STEPS
 */
import { greedy } from '../../../bench/greedy-request.js';
import { calibrate, calibrationPlan } from '../../../src/engine/calibration/calibrate.js';
import { Executor } from '../../../src/engine/execution/executor.js';
import { loadModel } from '../../../src/engine/execution/load-model.js';
import { EngineCore } from '../../../src/engine/worker/core.js';
import type { StageKernel } from '../../../src/model/manifest.js';
import { chunkSizes, defaultPolicy } from '../../../src/router/index.js';
import { monotonicMs } from '../../../src/util/clock.js';
import { mark } from './fake.js';

const [modelDir = '', kernel = 'fp16', rows = '4', steps = '10'] = process.argv.slice(2);
const options = {
  modelDir,
  device: 'cuda',
  threads: 1,
  kvMemoryBytes: 2 ** 30,
  maxRunning: Number(rows),
  maxQueue: 1000,
  prefillChunk: 64,
  kernels: [kernel as StageKernel],
  prefixReuse: false,
} as const;
const executor = new Executor(await loadModel(options));
const costs = calibrate(executor, { ...calibrationPlan(options.maxRunning, 32, 64), repeats: 1 }, monotonicMs);
const core = new EngineCore(executor, costs, {
  maxRunning: options.maxRunning,
  maxQueue: options.maxQueue,
  kvBytes: options.kvMemoryBytes,
  prefixReuse: options.prefixReuse,
  prefillChunk: options.prefillChunk,
  speculate: 'off',
  policy: { ...defaultPolicy, chunks: chunkSizes(options.prefillChunk) },
  clock: monotonicMs,
});
const [card] = executor.model.devices();
mark('serve');
for (const { entry } of executor.model.exits) {
  for (let row = 0; row < options.maxRunning; row++)
    core.submit(greedy(`${entry.layer}-${row}`, [row + 2, 1, 4, 1, 5, 9], entry.layer, Number(steps) + 8));
  let counted = 0;
  for (let running = 0; core.busy;) {
    const isCounted = running === options.maxRunning && counted++ < Number(steps);
    mark(isCounted ? `loops ${entry.layer}` : 'other');
    running = core.step().tokens.length;
  }
}
console.log(JSON.stringify({ plan: card?.plan }));
executor.dispose();
