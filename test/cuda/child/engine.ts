/** The real engine on `--device cuda`, with costs that it measures once. */
import koffi from 'koffi';
import { calibrate, calibrationPlan } from '../../../src/engine/calibration/calibrate.js';
import type { EngineOptions } from '../../../src/protocol/engine-options.js';
import { Executor } from '../../../src/engine/execution/executor.js';
import { loadModel } from '../../../src/engine/execution/load-model.js';
import { type CoreOptions, EngineCore } from '../../../src/engine/worker/core.js';
import { chunkSizes, defaultPolicy } from '../../../src/engine/scheduler/policy.js';
import { monotonicMs } from '../../../src/util/clock.js';

type Stated = 'modelDir' | 'kernels' | 'maxRunning' | 'kvMemoryBytes' | 'prefixReuse';

export interface CudaEngine {
  readonly executor: Executor;
  /** A core without sequences. */
  readonly coreOf: (more?: Partial<CoreOptions>) => EngineCore;
}

export async function cudaEngine(stated: Pick<EngineOptions, Stated>): Promise<CudaEngine> {
  const options = { ...stated, device: 'cuda', threads: 1, maxQueue: 1000, prefillChunk: 64 } as const;
  const { maxRunning, maxQueue, kvMemoryBytes, prefixReuse, prefillChunk } = options;
  const executor = new Executor(await loadModel(options));
  const costs = calibrate(executor, { ...calibrationPlan(maxRunning, 32, 64), repeats: 1 }, monotonicMs);
  const coreOf = (more: Partial<CoreOptions> = {}): EngineCore =>
    new EngineCore(executor, costs, {
      ...{ maxRunning, maxQueue, kvBytes: kvMemoryBytes, prefixReuse, prefillChunk },
      speculate: 'off',
      policy: { ...defaultPolicy, chunks: chunkSizes(prefillChunk) },
      clock: monotonicMs,
      ...more,
    });
  return { executor, coreOf };
}

// The control of the fake CUDA libraries in a process that runs over them.

const library = koffi.load('libcuda.so.1');
const set = library.func('void fakeMark(const char*)');

/** Divides the trace, and writes it to the file. */
export function mark(text: string): void {
  set(text);
}
