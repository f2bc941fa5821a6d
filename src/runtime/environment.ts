/**
 * ONNX Runtime's process-wide state: the environment with the one thread pool that all sessions share.
 *
 * Knows: threads, memory descriptions. Must not know: models.
 */
import { type Handle, loadOrt, type OrtApi } from './ort-api.js';

const LOG_ERRORS_ONLY = 3;
const DEVICE_ALLOCATOR = 0;
const ARENA_ALLOCATOR = 1;
const DEFAULT_MEMORY = 0;

export interface Environment {
  readonly ort: OrtApi;
  readonly handle: Handle;
  readonly runOptions: Handle;
  readonly hostMemory: Handle;
}

let created: Environment | undefined;

/**
 * The environment. One per process: ONNX Runtime keeps the first one's thread pool, so later calls return the first.
 * @param threads compute threads; they spin between runs, which halves the time between two small graphs.
 */
export function createEnvironment(threads: number): Environment {
  if (created) return created;
  // Sessions read it when they are made. For one row and for chunks the plain kernel is faster than the tiled one up to
  // 1,000 positions (docs/benchmarks.md has the figures), and its scratch of heads x chunk x context floats is small.
  process.env.ORT_GQA_DISABLE_FLASH_ATTENTION ??= '1';
  const ort = loadOrt();
  const options = ort.create('CreateThreadingOptions');
  ort.call('SetGlobalIntraOpNumThreads', options, threads);
  ort.call('SetGlobalInterOpNumThreads', options, 1);
  ort.call('SetGlobalSpinControl', options, 1);
  const handle = ort.create('CreateEnvWithGlobalThreadPools', LOG_ERRORS_ONLY, 'sortie', options);
  ort.release('ReleaseThreadingOptions', options);
  // One arena for what all sessions compute in passing (session.ts). They run one at a time, so each would fill one of
  // its own with the same: 110 MB more with the embedded model.
  const arena = ort.create('CreateMemoryInfo', 'Cpu', ARENA_ALLOCATOR, 0, DEFAULT_MEMORY);
  ort.call('CreateAndRegisterAllocator', handle, arena, null);
  ort.release('ReleaseMemoryInfo', arena);
  created = {
    ort,
    handle,
    runOptions: ort.create('CreateRunOptions'),
    hostMemory: ort.create('CreateMemoryInfo', 'Cpu', DEVICE_ALLOCATOR, 0, DEFAULT_MEMORY),
  };
  return created;
}
