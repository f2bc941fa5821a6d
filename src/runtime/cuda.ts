/**
 * An NVIDIA GPU as a device: memory of the CUDA runtime, and copies that stay on the card.
 *
 * Written against the documented contracts of the CUDA 12 runtime and of ONNX Runtime's CUDA provider; ARCHITECTURE.md
 * says whether it has run on a GPU. ONNX Runtime synchronizes its stream at the end of each run, so a copy on the
 * default stream sees finished results.
 */
import koffi from 'koffi';
import type { Device } from './device.js';
import type { Environment } from './environment.js';
import type { Handle } from './ort-api.js';

const MEMCPY_HOST_TO_DEVICE = 1;
const MEMCPY_DEVICE_TO_HOST = 2;
const MEMCPY_DEVICE_TO_DEVICE = 3;

/** @throws Error if the CUDA 12 runtime library is missing or a call fails */
export function cudaDevice(environment: Environment, deviceId = 0): Device {
  const cudart = koffi.load('libcudart.so.12');
  const errorString = cudart.func('const char* cudaGetErrorString(int)');
  const check = (call: string, code: unknown): void => {
    if (code !== 0) throw new Error(`${call}: ${errorString(code) as string}`);
  };
  const setDevice = cudart.func('int cudaSetDevice(int)');
  const malloc = cudart.func('int cudaMalloc(_Out_ void**, size_t)');
  const free = cudart.func('int cudaFree(void*)');
  const memset = cudart.func('int cudaMemset(void*, int, size_t)');
  const memcpy = cudart.func('int cudaMemcpy(void*, void*, size_t, int)');
  const memcpyToHost = cudart.func('cudaMemcpy', 'int', ['uint8_t*', 'void*', 'size_t', 'int']);
  const memcpyFromHost = cudart.func('cudaMemcpy', 'int', ['void*', 'uint8_t*', 'size_t', 'int']);
  check('cudaSetDevice', setDevice(deviceId));
  return {
    kind: 'cuda',
    lazy: false,
    copiesInputsAtBind: true,
    memoryInfo: environment.ort.create('CreateMemoryInfo', 'Cuda', 0, deviceId, 0),
    alloc: (bytes) => {
      const out: [bigint | null] = [null];
      check('cudaMalloc', malloc(out, bytes));
      const address = out[0];
      if (address === null) throw new RangeError(`cannot reserve ${bytes} bytes on the GPU`);
      check('cudaMemset', memset(address, 0, bytes));
      return address;
    },
    free: (address) => {
      check('cudaFree', free(address));
    },
    copy: (target, source, bytes) => {
      check('cudaMemcpy', memcpy(target, source, bytes, MEMCPY_DEVICE_TO_DEVICE));
    },
    read: (source, target) => {
      check('cudaMemcpy', memcpyToHost(koffi.as(target, 'uint8_t*'), source, target.byteLength, MEMCPY_DEVICE_TO_HOST));
    },
    write: (target, source) => {
      const host = koffi.as(source, 'uint8_t*');
      check('cudaMemcpy', memcpyFromHost(target, host, source.byteLength, MEMCPY_HOST_TO_DEVICE));
    },
    giveBack: () => undefined,
  };
}

/** Adds the CUDA provider to session options. @throws OrtError if the library was built without it */
export function appendCuda({ ort }: Environment, sessionOptions: Handle, deviceId = 0): void {
  const options = ort.create('CreateCUDAProviderOptions');
  try {
    ort.call(
      'UpdateCUDAProviderOptions',
      options,
      ['device_id', 'arena_extend_strategy', 'cudnn_conv_algo_search'],
      [String(deviceId), 'kSameAsRequested', 'HEURISTIC'],
      3,
    );
    ort.call('SessionOptionsAppendExecutionProvider_CUDA_V2', sessionOptions, options);
  } finally {
    ort.release('ReleaseCUDAProviderOptions', options);
  }
}
