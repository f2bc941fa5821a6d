/**
 * Runs a stage for four rows, captured as a CUDA graph by the provider. Prints nothing: the trace has the calls.
 * Usage: capture.js MODEL RUNS
 */
import { join } from 'node:path';
import koffi from 'koffi';
import { KvCache } from '../../../src/model/kv-cache.js';
import { loadManifest } from '../../../src/model/manifest-io.js';
import { createEnvironment } from '../../../src/runtime/environment.js';
import { cudaDevice } from '../../../src/runtime/cuda.js';
import { hostI32, Tensor } from '../../../src/runtime/tensor.js';
import { mark } from './fake.js';

const ROWS = 4;
const CAPACITY = 64;
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

const total = hostI32(1);
total.data[0] = CAPACITY;
const kv = new KvCache(environment, device, stage.layers, {
  slots: ROWS,
  kvHeads,
  capacity: CAPACITY,
  headDim,
  type: 'f16',
});
const onDevice = (dims: readonly number[], type: 'f16' | 'i32', bytes: number): Tensor =>
  new Tensor(environment, device.memoryInfo, device.alloc(bytes), dims, type);
const inputs = {
  hidden: onDevice([ROWS, 1, hidden], 'f16', 2 * ROWS * hidden),
  seqlens_k: onDevice([ROWS], 'i32', 4 * ROWS),
  total_len: new Tensor(environment, environment.hostMemory, total.address, [1], 'i32'),
  ...kv.tensors('past', 0, ROWS),
};
const outputs = {
  hidden_out: onDevice([ROWS, 1, hidden], 'f16', 2 * ROWS * hidden),
  ...kv.tensors('present', 0, ROWS),
};
const binding = ort.create('CreateIoBinding', session);
for (const [name, tensor] of Object.entries(inputs)) ort.call('BindInput', binding, name, tensor.handle);
for (const [name, tensor] of Object.entries(outputs)) ort.call('BindOutput', binding, name, tensor.handle);
for (let run = 0; run < Number(runs); run++) {
  mark(`run ${run}`);
  ort.call('RunWithBinding', session, environment.runOptions, binding);
}
mark('end');
