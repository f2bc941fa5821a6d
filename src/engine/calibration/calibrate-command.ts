/**
 * `sortie calibrate` prints the cost table of a model folder on this machine, in the input form of `sortie simulate`.
 */
import { monotonicMs } from '../../util/clock.js';
import { depthShape } from '../depth-shape.js';
import type { EngineOptions } from '../../protocol/engine-options.js';
import { calibrate, calibrationPlan } from './calibrate.js';
import { Executor } from '../execution/executor.js';
import { loadModel } from '../execution/load-model.js';

/** Options of the server that change what a step costs. */
export interface CalibrateOptions {
  readonly threads: number;
  readonly device?: { readonly kind: EngineOptions['device']; readonly index: number };
  /** Bytes. */
  readonly kvMemory?: number;
  readonly maxRunning?: number;
  readonly prefillChunk?: number;
}

/**
 * @param progress receives the current work, and its finished parts of all parts
 * @returns JSON with `cost` and `shape`
 */
export async function calibrateCommand(
  modelDir: string,
  {
    threads,
    device = { kind: 'cpu', index: 0 },
    kvMemory = 2 ** 30,
    maxRunning = 16,
    prefillChunk = 128,
  }: CalibrateOptions,
  progress: (what: string, done: number, total: number) => void = () => undefined,
): Promise<string> {
  const options: EngineOptions = {
    modelDir,
    device: device.kind,
    deviceIndex: device.index,
    threads,
    kvMemoryBytes: kvMemory,
    maxRunning,
    maxQueue: 0,
    prefillChunk,
    kernels: null,
    prefixReuse: false,
  };
  const loaded = (done: number, total: number): void => {
    progress('loading the model', done, total);
  };
  const executor = new Executor(await loadModel(options, loaded));
  const plan = calibrationPlan(maxRunning, prefillChunk, executor.model.limits.capacity, device.kind);
  const measured = (done: number, total: number): void => {
    progress('measuring steps', done, total);
  };
  const cost = calibrate(executor, { ...plan, repeats: 10, patienceMs: 60_000 }, monotonicMs, measured);
  const shape = depthShape(executor.model.manifest);
  executor.dispose();
  return `${JSON.stringify({ cost, shape }, null, 2)}\n`;
}
