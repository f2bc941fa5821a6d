/**
 * The time of a decode step on `--device cuda` over kernels that do nothing: the host's own. Prints the median of the
 * process's time for numbers of rows as a line of JSON, in ms. Usage: host.js MODEL KERNEL KV_MIB
 */
import { Executor } from '../../../src/engine/execution/executor.js';
import { loadModel } from '../../../src/engine/execution/load-model.js';
import { servedKernelList } from '../../../src/cli/options/kinds.js';
import { liveRows } from './rows.js';

const STEPS = 60;
const [modelDir = '', kernel = 'fp16', kv = '256'] = process.argv.slice(2);
const limits = { threads: 1, kvMemoryBytes: Number(kv) * 2 ** 20, maxRunning: 256, maxQueue: 0, prefillChunk: 64 };
const kernels = servedKernelList.parse(kernel) ?? null;
const executor = new Executor(await loadModel({ modelDir, device: 'cuda', ...limits, kernels, prefixReuse: false }));
const live = liveRows(executor, 256);
const medians: Record<string, number> = {};
for (const rows of [1, 16, 64, 256]) {
  const batch = live.slice(0, rows);
  const times: number[] = [];
  for (let step = 0; step < STEPS; step++) {
    const before = process.cpuUsage();
    executor.run({ chunks: [], rows: batch, draft: null }, (head) => {
      head.choose(rows, 0);
    });
    executor.table.used('live');
    const { user, system } = process.cpuUsage(before);
    times.push((user + system) / 1000);
    for (const { slot } of batch) slot.tokens.push(3);
  }
  medians[rows] = times.sort((a, b) => a - b)[STEPS / 2] ?? NaN;
}
console.log(JSON.stringify(medians));
executor.dispose();
