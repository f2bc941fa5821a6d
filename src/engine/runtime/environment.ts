/** ONNX Runtime's process-wide environment, with the one thread pool that all sessions share. */
import { type Handle, loadOrt, type OrtApi } from './ort-api.js';

const LOG_ERRORS_ONLY = 3;
const DEVICE_ALLOCATOR = 0;
const ARENA_ALLOCATOR = 1;
const DEFAULT_MEMORY = 0;
const NO_GRAPH = -1;

export interface Environment {
  readonly ort: OrtApi;
  readonly handle: Handle;
  readonly runOptions: Handle;
  readonly hostMemory: Handle;
}

let created: Environment | undefined;

/**
 * The environment, one per process: ONNX Runtime keeps the first thread pool, so later calls return the first one.
 * @param threads compute threads; they spin between runs, which halves the time between two small graphs
 */
export function createEnvironment(threads: number): Environment {
  if (created) return created;
  // Each session reads this at its creation. The plain attention kernel is faster than the tiled one for one row, and
  // for chunks up to 1,000 positions (bench/results/engine.md). Its scratch of heads x chunk x context floats
  // is small.
  process.env.ORT_GQA_DISABLE_FLASH_ATTENTION ??= '1';
  const ort = loadOrt();
  const options = ort.create('CreateThreadingOptions');
  ort.call('SetGlobalIntraOpNumThreads', options, threads);
  ort.call('SetGlobalInterOpNumThreads', options, 1);
  ort.call('SetGlobalSpinControl', options, 1);
  const handle = ort.create('CreateEnvWithGlobalThreadPools', LOG_ERRORS_ONLY, 'sortie', options);
  ort.release('ReleaseThreadingOptions', options);
  // One arena for the intermediate results of all sessions (session.ts), which run one at a time. An arena per session
  // takes 110 MB more with the embedded model.
  const arena = ort.create('CreateMemoryInfo', 'Cpu', ARENA_ALLOCATOR, 0, DEFAULT_MEMORY);
  ort.call('CreateAndRegisterAllocator', handle, arena, null);
  ort.release('ReleaseMemoryInfo', arena);
  created = {
    ort,
    handle,
    runOptions: createRunOptions(ort, NO_GRAPH),
    hostMemory: ort.create('CreateMemoryInfo', 'Cpu', DEVICE_ALLOCATOR, 0, DEFAULT_MEMORY),
  };
  return created;
}

/** Options of runs that replay a graph of their session. */
export function createRunOptions(ort: OrtApi, graph: number): Handle {
  const options = ort.create('CreateRunOptions');
  // Work of a GPU runs in order, and the download of results waits for it: a wait at the end of each run adds nothing.
  ort.call('AddRunConfigEntry', options, 'disable_synchronize_execution_providers', '1');
  ort.call('AddRunConfigEntry', options, 'gpu_graph_id', String(graph));
  return options;
}
