/** `sortie calibrate` prints the cost table of a model folder on this machine, in the input form of `sortie simulate`. */
import { monotonicMs } from '../../util/clock.js';
import { depthShape } from '../../cost/model.js';
import { calibrate, calibrationPlan } from './calibrate.js';
import { Executor } from '../execution/executor.js';
import { loadModel } from '../execution/load-model.js';

/** @returns JSON with `cost` and `shape` */
export async function calibrateCommand(modelDir: string, threads: number): Promise<string> {
  const executor = new Executor(
    await loadModel({
      modelDir,
      device: 'cpu',
      threads,
      kvMemoryBytes: 2 ** 30,
      maxRunning: 16,
      maxQueue: 0,
      prefillChunk: 128,
      kernels: null,
      prefixReuse: false,
    }),
  );
  const plan = calibrationPlan(16, 128, executor.model.limits.capacity);
  const cost = calibrate(executor, { ...plan, repeats: 10, patienceMs: 60_000 }, monotonicMs);
  const shape = depthShape(executor.model.manifest);
  executor.dispose();
  return `${JSON.stringify({ cost, shape }, null, 2)}\n`;
}
