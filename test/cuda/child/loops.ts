/**
 * Decodes at each exit in turn on `--device cuda`, and marks the steps in which all rows decode by their exit. Prints a
 * line of JSON. Usage: loops.js MODEL KERNEL ROWS STEPS
 */
import { greedy } from '../../../bench/greedy-request.js';
import type { StageKernel } from '../../../src/engine/model/manifest.js';
import { cudaEngine, mark } from './engine.js';

const [modelDir = '', kernel = 'fp16', rows = '4', steps = '10'] = process.argv.slice(2);
const maxRunning = Number(rows);
const kernels = [kernel as StageKernel];
const { executor, coreOf } = await cudaEngine({
  ...{ modelDir, kernels, maxRunning, kvMemoryBytes: 2 ** 30, prefixReuse: false },
});
const core = coreOf();
const [placed] = executor.model.devices();
mark('serve');
for (const { entry } of executor.model.exits) {
  for (let row = 0; row < maxRunning; row++)
    core.submit(greedy(`${entry.layer}-${row}`, [row + 2, 1, 4, 1, 5, 9], entry.layer, Number(steps) + 8));
  let counted = 0;
  for (let running = 0; core.busy;) {
    const isCounted = running === maxRunning && counted++ < Number(steps);
    mark(isCounted ? `loops ${entry.layer}` : 'other');
    running = core.step().tokens.length;
  }
}
console.log(JSON.stringify({ plan: placed?.plan }));
executor.dispose();
