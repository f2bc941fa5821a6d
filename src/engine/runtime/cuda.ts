/**
 * An NVIDIA GPU as a device: memory and copies of the CUDA driver, all on one stream.
 *
 * The driver's library is the same for every CUDA version, so the version is the one that ONNX Runtime's provider
 * needs. Every session runs on the device's stream, and every copy goes there too. So a copy is ordered after the runs
 * before it, and before the runs after it. A copy on CUDA's default stream is not: a run may start while the copy is in
 * flight.
 *
 * Written against the documented contracts of the driver and the provider; ARCHITECTURE.md says what it has run on.
 */
import { readFileSync } from 'node:fs';
import koffi from 'koffi';
import type { DeviceInfo, Gpu, InputAreas } from './device.js';
import type { Environment } from './environment.js';
import { reserve, viewMemory } from './libc.js';
import type { Handle } from './ort-api.js';

const DRIVER = 'libcuda.so.1';
/** The stream does not wait for CUDA's default stream. */
const STREAM_NON_BLOCKING = 1;
/** ONNX Runtime's number of the way in which an arena grows. */
const NEXT_POWER_OF_TWO = 0n;
/** Bytes of the boundaries at which an allocation of CUDA's may begin. */
const ALIGNMENT = 256;
/** The CUDA version of the provider's wheel, and the first driver that supports it. */
const LEAST_CUDA = 13_000;
const LEAST_DRIVER = 580;
const NAME_BYTES = 256;
const DISABLED_OPTIMIZERS = 'optimization.disable_specified_optimizers';
const RELEASE_FILE = '/proc/driver/nvidia/version';

const INSTALL = "install NVIDIA's driver and ONNX Runtime's CUDA provider (docs/gpu.md)";

/** @throws Error if the driver is missing, finds no such device, or a call fails */
export function cudaDevice(environment: Environment, deviceId = 0): Gpu {
  const driver = openDriver(deviceId);
  const memoryInfo = environment.ort.create('CreateMemoryInfo', 'Cuda', 0, deviceId, 0);
  const held: bigint[] = [];
  const alloc = (bytes: number): bigint => {
    const address = driver.alloc(bytes);
    held.push(address);
    driver.zero(address, bytes);
    return address;
  };
  const [provider, capturing] = [false, true].map((each) =>
    providerOptions(environment, deviceId, driver.stream, each),
  ) as [Handle, Handle];
  shareArena(environment, memoryInfo);
  return {
    kind: 'cuda',
    copiesInputsAtBind: true,
    padsParts: false,
    memoryInfo,
    maxBufferBytes: Infinity,
    info: () => driver.describe(),
    configure: (options, captures) => {
      // Weights take what they need, outside the memory that grows in powers of two.
      environment.ort.call('AddSessionConfigEntry', options, 'session.use_device_allocator_for_initializers', '1');
      // Products with weights of 4 and 8 bits that unpack them on the way. Without it the provider unpacks each matrix
      // into memory at each step, from 8 rows with 8 bits and from 17 with 4.
      environment.ort.call('AddSessionConfigEntry', options, 'ep.cuda.fpa_intb_gemm', '1');
      // These products take no bias, so a sum must stay a node of its own.
      environment.ort.call('AddSessionConfigEntry', options, DISABLED_OPTIMIZERS, 'MatMulNBitsFusion');
      environment.ort.call('SessionOptionsAppendExecutionProvider_CUDA_V2', options, captures ? capturing : provider);
    },
    alloc,
    allocInputs: (sizes) => inputAreas(driver, alloc, sizes),
    dispose: () => {
      for (const address of held.splice(0)) driver.free(address);
    },
    upload: (copies) => {
      for (const { target, source } of copies) driver.fromHost(target, source);
    },
    download: (source, target) => {
      driver.toHost(source, target);
      driver.wait();
    },
  };
}

/** Areas one behind the other: one copy reaches from the first used area to the last, with the bytes between them. */
function inputAreas(driver: Driver, alloc: (bytes: number) => bigint, sizes: readonly number[]): InputAreas {
  const starts: number[] = [];
  let total = 0;
  for (const bytes of sizes) {
    starts.push(total);
    total += aligned(bytes);
  }
  const device = alloc(total);
  const image = new Uint8Array(viewMemory(reserve(total), total));
  return {
    addresses: starts.map((start) => device + BigInt(start)),
    hosts: sizes.map((bytes, i) => image.subarray(starts[i], (starts[i] ?? 0) + bytes)),
    upload: (bytes) => {
      const used = starts.flatMap((start, i) => ((bytes[i] ?? 0) > 0 ? [start, start + (bytes[i] ?? 0)] : []));
      const [first] = used;
      if (first !== undefined) driver.fromHost(device + BigInt(first), image.subarray(first, used.at(-1)));
    },
  };
}

function aligned(bytes: number): number {
  return Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
}

/** The driver's calls on one device, in the order of its stream. */
type Driver = ReturnType<typeof openDriver>;

/** A call of the driver; an error has its name and the driver's message. */
type Call = (...args: unknown[]) => void;

function openDriver(deviceId: number) {
  const callOf = loadCalls();
  try {
    callOf('cuInit', 'unsigned int')(0);
  } catch (error) {
    throw new Error(`--device cuda: ${error instanceof Error ? error.message : String(error)}; ${INSTALL}`, {
      cause: error,
    });
  }
  const version = numberOf(callOf('cuDriverGetVersion', '_Out_ int*'));
  if (version < LEAST_CUDA)
    throw new Error(
      `--device cuda: the driver supports ${cudaName(version)}, and ONNX Runtime's CUDA provider needs ${cudaName(LEAST_CUDA)}; install NVIDIA's driver ${LEAST_DRIVER} or a later one`,
    );
  const count = numberOf(callOf('cuDeviceGetCount', '_Out_ int*'));
  if (deviceId >= count)
    throw new Error(`--device cuda:${deviceId}: the driver has ${count} device(s), numbered from 0`);
  const device = numberOf(callOf('cuDeviceGet', '_Out_ int*, int'), deviceId);
  // The primary context is the one that the provider's runtime library uses.
  callOf('cuCtxSetCurrent', 'void*')(pointerOf(callOf('cuDevicePrimaryCtxRetain', '_Out_ void**, int'), device));
  const getName = callOf('cuDeviceGetName', 'uint8_t*, int, int');
  const getMemory = callOf('cuMemGetInfo_v2', '_Out_ size_t*, _Out_ size_t*');
  const describe = (): DeviceInfo => {
    const name = new Uint8Array(NAME_BYTES);
    getName(koffi.as(name, 'uint8_t*'), NAME_BYTES, device);
    const free: [number | bigint] = [0];
    const total: [number | bigint] = [0];
    getMemory(free, total);
    return {
      index: deviceId,
      name: new TextDecoder().decode(name.subarray(0, name.indexOf(0))),
      driver: driverName(version),
      memoryBytes: Number(total[0]),
      freeBytes: Number(free[0]),
    };
  };
  return { describe, ...streamCalls(callOf) };
}

/** Memory of the device, and copies on a stream of their own. */
function streamCalls(callOf: CallOf) {
  const stream = pointerOf(callOf('cuStreamCreate', '_Out_ void**, unsigned int'), STREAM_NON_BLOCKING);
  const alloc = callOf('cuMemAlloc_v2', '_Out_ void**, size_t');
  const free = callOf('cuMemFree_v2', 'void*');
  const fill = callOf('cuMemsetD8Async', 'void*, uint8_t, size_t, void*');
  const toHost = callOf('cuMemcpyDtoHAsync_v2', 'uint8_t*, void*, size_t, void*');
  const fromHost = callOf('cuMemcpyHtoDAsync_v2', 'void*, uint8_t*, size_t, void*');
  const synchronize = callOf('cuStreamSynchronize', 'void*');
  return {
    /** CUstream of the device. */
    stream,
    alloc: (bytes: number): bigint => {
      try {
        return pointerOf(alloc, bytes);
      } catch (error) {
        throw new Error(`cannot reserve ${bytes} bytes on the GPU: ${(error as Error).message}`, { cause: error });
      }
    },
    free,
    zero: (address: bigint, bytes: number): void => {
      fill(address, 0, bytes, stream);
    },
    toHost: (source: bigint, target: Uint8Array): void => {
      toHost(koffi.as(target, 'uint8_t*'), source, target.byteLength, stream);
    },
    /** The driver has read pageable memory when the call returns. */
    fromHost: (target: bigint, source: Uint8Array): void => {
      fromHost(target, koffi.as(source, 'uint8_t*'), source.byteLength, stream);
    },
    wait: (): void => {
      synchronize(stream);
    },
  };
}

type CallOf = (name: string, parameters: string) => Call;

/** The calls of the driver's library. */
function loadCalls(): CallOf {
  const library = loadDriver();
  const errorString = library.func('int cuGetErrorString(int, _Out_ const char**)');
  return (name, parameters) => {
    const call = library.func(`int ${name}(${parameters})`);
    return (...args) => {
      const code: unknown = call(...args);
      if (code === 0) return;
      const text: [string | null] = [null];
      errorString(code, text);
      throw new Error(`${name.replace('_v2', '')}: ${text[0] ?? `error ${String(code)}`}`);
    };
  };
}

/** The result that a call writes to its first parameter. */
function numberOf(call: Call, ...args: unknown[]): number {
  const out: [number] = [0];
  call(out, ...args);
  return out[0];
}

function pointerOf(call: Call, ...args: unknown[]): bigint {
  const out: [bigint | null] = [null];
  call(out, ...args);
  if (out[0] === null) throw new Error('a call of the CUDA driver returned no pointer');
  return out[0];
}

/** The driver's release where the system tells it, and the newest CUDA version that the driver supports, as 12040. */
function driverName(version: number): string {
  const cuda = cudaName(version);
  try {
    const [, release] = /^NVRM version:.*?\s(\d+\.[\d.]+)\s/m.exec(readFileSync(RELEASE_FILE, 'utf8')) ?? [];
    return release === undefined ? cuda : `${release}, ${cuda}`;
  } catch {
    // Containers may hide the file.
    return cuda;
  }
}

/** A number of CUDA's versions such as 12040, as its name. */
function cudaName(version: number): string {
  return `CUDA ${Math.floor(version / 1000)}.${Math.floor((version % 1000) / 10)}`;
}

function loadDriver(): ReturnType<typeof koffi.load> {
  try {
    return koffi.load(DRIVER);
  } catch (error) {
    throw new Error(`--device cuda needs ${DRIVER}, which cannot be loaded; ${INSTALL}`, { cause: error });
  }
}

/** The provider's options for all sessions of a device. @throws Error that says what to install */
function providerOptions({ ort }: Environment, deviceId: number, stream: bigint, captures: boolean): Handle {
  const settings = {
    device_id: String(deviceId),
    // The provider reads the stream's address only beside the first of these two.
    has_user_compute_stream: '1',
    user_compute_stream: String(stream),
    enable_cuda_graph: captures ? '1' : '0',
  };
  try {
    const options = ort.create('CreateCUDAProviderOptions');
    const values = Object.values(settings);
    ort.call('UpdateCUDAProviderOptions', options, Object.keys(settings), values, values.length);
    return options;
  } catch (error) {
    // ONNX Runtime's message begins with the place in its source.
    const reason = String(error).split(' : ').at(-1)?.trim() ?? '';
    throw new Error(`--device cuda: ${reason}; ${INSTALL}`, { cause: error });
  }
}

/**
 * Gives the device one arena for the intermediate results of all sessions: their runs are in order, on one stream. Call
 * it when the provider is loaded. The arena grows in powers of two, at the first runs and rarely later.
 */
function shareArena({ ort, handle }: Environment, memoryInfo: Handle): void {
  const arena = ort.create('CreateArenaCfgV2', ['arena_extend_strategy'], BigUint64Array.of(NEXT_POWER_OF_TWO), 1);
  ort.call('CreateAndRegisterAllocatorV2', handle, 'CUDAExecutionProvider', memoryInfo, arena, [], [], 0);
  ort.release('ReleaseArenaCfg', arena);
}
