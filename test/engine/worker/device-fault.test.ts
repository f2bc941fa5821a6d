/** A GPU that fails or lacks memory: the sentence for each source of the error, and none for other errors. */
import t from 'tap';
import { deviceFault, memoryFault } from '../../../src/engine/worker/device-fault.js';

const CUDA =
  'CreateSession: Exception during initialization: /src/cuda_call.cc:154 bool onnxruntime::CudaCall(int, const char*) ' +
  '[with ERRTYPE = cudaError] CUDA failure 2: out of memory ; GPU=0 ; hostname=node-7 ; file=/src/a.cc ; line=1 ; expr=x; ';
const ARENA =
  'RunWithBinding: Non-zero status code returned while running MatMul node.\n' +
  '/src/bfc_arena.cc:359 void* onnxruntime::BFCArena::AllocateRawInternal(size_t) Failed to allocate memory for requested ' +
  'buffer of size 4096';

void t.test('a lack of memory is one sentence without the place in the source', (t) => {
  t.equal(
    memoryFault(new Error(CUDA), 'cuda', 'load'),
    '--device cuda: the GPU has too little memory for the weights, --kv-memory and the largest step ' +
      '(CUDA failure 2: out of memory); lower --kv-memory, --max-running or --prefill-chunk',
  );
  t.match(memoryFault(new Error(ARENA), 'cuda', 'step'), /no memory left for a step.*requested buffer of size 4096\)/);
  t.match(
    memoryFault(new RangeError('cannot reserve 64 bytes on the GPU: cuMemAlloc: out of memory'), 'webgpu', 'load'),
    /^--device webgpu: .* \(cannot reserve 64 bytes on the GPU: cuMemAlloc: out of memory\); lower --kv-memory/,
  );
  t.end();
});

void t.test('other errors, and those of the CPU, stay as they are', (t) => {
  t.equal(memoryFault(new Error('graph stage-0 is missing'), 'cuda', 'load'), null);
  t.equal(memoryFault(new RangeError('cannot reserve 64 bytes of memory'), 'cpu', 'load'), null);
  t.end();
});

void t.test('an error of the card is one sentence without the place in the source', (t) => {
  const illegal = CUDA.replace('2: out of memory', '700: an illegal memory access was encountered');
  t.equal(
    deviceFault(new Error(illegal)),
    '--device cuda: the GPU failed in a step (CUDA failure 700: an illegal memory access was encountered); ' +
      "the engine starts again; if that repeats, see the driver's log (dmesg | grep -i xid)",
  );
  t.match(deviceFault(new Error('cuStreamSynchronize: uncorrectable ECC error encountered')), /\(cuStream.*ECC error/);
  t.match(deviceFault(new Error('RunWithBinding: CUBLAS failure 14: CUBLAS_STATUS_INTERNAL_ERROR ; GPU=0')), /STATUS/);
  const kernel =
    'RunWithBinding: Non-zero status code returned while running Gather node. Status Message: CUDA error x:an ECC error';
  t.match(deviceFault(new Error(kernel)), /\(CUDA error x:an ECC error\)/);
  t.equal(deviceFault(new RangeError('position 5 has no page')), null);
  t.end();
});
