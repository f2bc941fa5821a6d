/**
 * Runs a stage for four rows, captured as a CUDA graph by the provider. Prints nothing: the trace has the calls.
 * Usage: capture.js MODEL RUNS
 */
import { join } from 'node:path';
import koffi from 'koffi';
import { loadManifest } from '../../../src/model/manifest-io.js';
import { createEnvironment } from '../../../src/runtime/environment.js';
import { cudaDevice } from '../../../src/runtime/cuda.js';
import { hostI32, Tensor } from '../../../src/runtime/tensor.js';
import { mark } from './fake.js';

const ROWS = 4;
const PAGE = 64;
const [folder = '', runs = '4'] = process.argv.slice(2);
const environment = createEnvironment(1);
const { ort } = environment;
const device = cudaDevice(environment);
const manifest = loadManifest(folder);
const { hidden, kvHeads, headDim } = manifest.architecture;
const stage = manifest.stages[0];
if (!stage) throw new Error(`${folder} has no stage`);

// A stream of its own: the default stream can't be captured.
const out: [bigint | null] = [null];
if (koffi.load('libcuda.so.1').func('int cuStreamCreate(_Out_ void**, unsigned int)')(out, 1) !== 0 || out[0] === null)
  throw new Error('no stream');
const settings = {
  device_id: '0',
  has_user_compute_stream: '1',
  user_compute_stream: String(out[0]),
  enable_cuda_graph: '1',
};
const provider = ort.create('CreateCUDAProviderOptions');
ort.call('UpdateCUDAProviderOptions', provider, Object.keys(settings), Object.values(settings), 4);
const options = ort.create('CreateSessionOptions');
ort.call('DisableMemPattern', options);
ort.call('DisablePerSessionThreads', options);
ort.call('SessionOptionsAppendExecutionProvider_CUDA_V2', options, provider);
ort.call('AddSessionConfigEntry', options, 'session.disable_cpu_ep_fallback', '1');
const graph = join(folder, stage.graphs.fp16 ?? '');
const session = ort.create('CreateSession', environment.handle, graph, options);

// A step of one position for each row; every sequence has a page of its own.
const bounds = hostI32(2);
bounds.data.set([1, PAGE]);
const BYTES = { f16: 2, i32: 4, i64: 8 } as const;
const onDevice = (dims: readonly number[], type: keyof typeof BYTES): Tensor => {
  const memory = device.alloc(dims.reduce((product, dim) => product * dim, BYTES[type]));
  return new Tensor(environment, device.memoryInfo, memory, dims, type);
};
const store = onDevice([2 * ROWS, hidden], 'f16');
const caches = Array.from({ length: 2 * stage.layers }, () => onDevice([ROWS, PAGE, kvHeads, headDim], 'f16'));
const cacheNames = (suffix: string): Record<string, Tensor> =>
  Object.fromEntries(caches.map((cache, i) => [`${i % 2 === 0 ? 'k' : 'v'}${suffix}_${i >> 1}`, cache]));
const inputs = {
  store,
  rows_in: onDevice([ROWS], 'i64'),
  rows_out: onDevice([ROWS, 1], 'i64'),
  cumulative: onDevice([ROWS + 1], 'i32'),
  pasts: onDevice([ROWS], 'i32'),
  table: onDevice([ROWS, 1], 'i32'),
  bounds: new Tensor(environment, environment.hostMemory, bounds.address, [2], 'i32'),
  ...cacheNames(''),
};
const outputs = { store_out: store, ...cacheNames('_out') };
const binding = ort.create('CreateIoBinding', session);
for (const [name, tensor] of Object.entries(inputs)) ort.call('BindInput', binding, name, tensor.handle);
for (const [name, tensor] of Object.entries(outputs)) ort.call('BindOutput', binding, name, tensor.handle);
for (let run = 0; run < Number(runs); run++) {
  mark(`run ${run}`);
  ort.call('RunWithBinding', session, environment.runOptions, binding);
}
mark('end');
