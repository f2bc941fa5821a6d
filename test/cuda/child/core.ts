/**
 * The host's part of whole decode steps on `--device cuda`, of requests without a budget. Prints medians for each number of
 * rows as a line of JSON, in ms and bytes. They are CPU time, time in which the device has no work, bytes that a step
 * allocates, and the parts of the cycle. FAKE_CUDA_KERNEL_NS is the time of a kernel. Usage: core.js MODEL KERNEL [ROWS...]
 */
import { getHeapStatistics } from 'node:v8';
import { greedy } from '../../../bench/greedy-request.js';
import { servedKernelList } from '../../../src/cli/options/kinds.js';
import { cudaEngine } from './engine.js';
import { idleMs } from './fake.js';

const STEPS = 100;
const [modelDir = '', kernel = 'fp16', ...numbers] = process.argv.slice(2);
const kernels = servedKernelList.parse(kernel) ?? null;
const { executor, coreOf } = await cudaEngine({
  ...{ modelDir, kernels, maxRunning: 256, kvMemoryBytes: 2 ** 28, prefixReuse: false },
});
const deepest = executor.model.exits.at(-1)?.entry.layer ?? 0;
const median = (values: number[]): number => values.sort((a, b) => a - b)[values.length >> 1] ?? NaN;
const allocated = (): number => getHeapStatistics().used_heap_size;

const found: Record<string, object> = {};
for (const rows of numbers.length > 0 ? numbers.map(Number) : [1, 64, 256]) {
  const core = coreOf({});
  for (let row = 0; row < rows; row++) core.submit(greedy(`r${row}`, [3 + (row % 90), 4, 5], deepest, 2 * STEPS));
  let drawn = 0;
  while (drawn < rows) drawn = core.step().tokens.length;
  const all = { cpu: [], idle: [], bytes: [] } as Record<'cpu' | 'idle' | 'bytes', number[]>;
  const parts: Record<string, number[]> = {};
  for (let step = 0; step < STEPS; step++) {
    const [cpu, idle, bytes] = [process.cpuUsage(), idleMs(), allocated()];
    const { work } = core.step();
    const { user, system } = process.cpuUsage(cpu);
    all.cpu.push((user + system) / 1000);
    all.idle.push(idleMs() - idle);
    all.bytes.push(allocated() - bytes);
    for (const [part, ms] of Object.entries(work?.partMs ?? {})) (parts[part] ??= []).push(ms);
  }
  const medians = Object.fromEntries(
    Object.entries({ ...all, ...parts }).map(([name, values]) => [name, Number(median(values).toFixed(3))]),
  );
  found[rows] = medians;
  for (let row = 0; row < rows; row++) core.cancel(`r${row}`);
  while (core.busy) core.step();
}
console.log(JSON.stringify(found));
executor.dispose();
