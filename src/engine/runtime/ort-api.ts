/**
 * The part of ONNX Runtime's C API that Sortie calls, bound with koffi to the library in onnxruntime-node. OrtApi is a
 * struct of function pointers that only grows (onnxruntime_c_api.h, API version 24).
 *
 * The process must never load onnxruntime-node's own JavaScript: it would create the environment first, without the
 * global thread pool.
 */
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import koffi from 'koffi';
import { keepLoaded } from './libc.js';

/** An opaque native object (OrtSession*, OrtValue*, ...). */
export type Handle = bigint;

const ORT_API_VERSION = 24;
const LIBRARY: Partial<Record<NodeJS.Platform, string>> = {
  linux: 'libonnxruntime.so.1',
  darwin: 'libonnxruntime.1.dylib',
};

/** Index in OrtApi, and the C signature with NAME for the function's name. A status is a void*. */
const FUNCTIONS = {
  GetErrorMessage: [2, 'const char* NAME(void*)'],
  CreateSession: [7, 'void* NAME(void*, const char*, void*, _Out_ void**)'],
  CreateSessionFromArray: [8, 'void* NAME(void*, const void*, size_t, void*, _Out_ void**)'],
  CreateSessionOptions: [10, 'void* NAME(_Out_ void**)'],
  DisableMemPattern: [17, 'void* NAME(void*)'],
  CreateRunOptions: [39, 'void* NAME(_Out_ void**)'],
  CreateTensorWithDataAsOrtValue: [49, 'void* NAME(void*, void*, size_t, const int64_t*, size_t, int, _Out_ void**)'],
  CreateMemoryInfo: [68, 'void* NAME(const char*, int, int, int, _Out_ void**)'],
  AllocatorAlloc: [75, 'void* NAME(void*, size_t, _Out_ void**)'],
  AllocatorFree: [76, 'void* NAME(void*, void*)'],
  ReleaseStatus: [93, 'void NAME(void*)'],
  ReleaseMemoryInfo: [94, 'void NAME(void*)'],
  ReleaseSession: [95, 'void NAME(void*)'],
  ReleaseValue: [96, 'void NAME(void*)'],
  ReleaseRunOptions: [97, 'void NAME(void*)'],
  ReleaseSessionOptions: [100, 'void NAME(void*)'],
  CreateEnvWithGlobalThreadPools: [119, 'void* NAME(int, const char*, void*, _Out_ void**)'],
  DisablePerSessionThreads: [120, 'void* NAME(void*)'],
  CreateThreadingOptions: [121, 'void* NAME(_Out_ void**)'],
  ReleaseThreadingOptions: [122, 'void NAME(void*)'],
  AddSessionConfigEntry: [130, 'void* NAME(void*, const char*, const char*)'],
  CreateAllocator: [131, 'void* NAME(void*, void*, _Out_ void**)'],
  RunWithBinding: [133, 'void* NAME(void*, void*, void*)'],
  CreateIoBinding: [134, 'void* NAME(void*, _Out_ void**)'],
  ReleaseIoBinding: [135, 'void NAME(void*)'],
  BindInput: [136, 'void* NAME(void*, const char*, void*)'],
  BindOutput: [137, 'void* NAME(void*, const char*, void*)'],
  CreateAndRegisterAllocator: [144, 'void* NAME(void*, void*, void*)'],
  SetGlobalIntraOpNumThreads: [147, 'void* NAME(void*, int)'],
  SetGlobalInterOpNumThreads: [148, 'void* NAME(void*, int)'],
  SetGlobalSpinControl: [149, 'void* NAME(void*, int)'],
  AddInitializer: [150, 'void* NAME(void*, const char*, void*)'],
  ReleaseArenaCfg: [157, 'void NAME(void*)'],
  CreateArenaCfgV2: [164, 'void* NAME(const char**, const size_t*, size_t, _Out_ void**)'],
  AddRunConfigEntry: [165, 'void* NAME(void*, const char*, const char*)'],
  SessionOptionsAppendExecutionProvider_CUDA_V2: [204, 'void* NAME(void*, void*)'],
  CreateCUDAProviderOptions: [205, 'void* NAME(_Out_ void**)'],
  UpdateCUDAProviderOptions: [206, 'void* NAME(void*, const char**, const char**, size_t)'],
  SessionOptionsAppendExecutionProvider: [216, 'void* NAME(void*, const char*, const char**, const char**, size_t)'],
  CreateAndRegisterAllocatorV2: [
    259,
    'void* NAME(void*, const char*, void*, void*, const char**, const char**, size_t)',
  ],
  AddExternalInitializersFromFilesInMemory: [279, 'void* NAME(void*, const char**, void**, const size_t*, size_t)'],
  CopyTensors: [386, 'void* NAME(void*, void**, void**, void*, size_t)'],
} as const;

type FunctionName = keyof typeof FUNCTIONS;
type Argument = Handle | number | string | null | ArrayBufferView | readonly (bigint | number | string)[] | [null];

/** A failed call of ONNX Runtime, with ONNX Runtime's own message. */
export class OrtError extends Error {
  override readonly name = 'OrtError';
  constructor(
    readonly call: string,
    message: string,
  ) {
    super(`${call}: ${message}`);
  }
}

/** The bound library; `loadOrt` creates it once per process. */
export class OrtApi {
  readonly #functions: Record<FunctionName, (...args: Argument[]) => unknown>;

  constructor(
    readonly version: string,
    api: Handle,
  ) {
    const bind = ([index, signature]: readonly [number, string], name: string): ((...args: Argument[]) => unknown) =>
      koffi.decode(koffi.decode(api, index * 8, 'void*'), koffi.proto(signature.replace('NAME', `Ort${name}`))) as (
        ...args: Argument[]
      ) => unknown;
    this.#functions = Object.fromEntries(
      Object.entries(FUNCTIONS).map(([name, entry]) => [name, bind(entry, name)]),
    ) as Record<FunctionName, (...args: Argument[]) => unknown>;
  }

  /** @throws OrtError if the call returns a status */
  call(name: FunctionName, ...args: Argument[]): void {
    const status = this.#functions[name](...args) as Handle | null;
    if (status !== null && status !== 0n) {
      const message = this.#functions.GetErrorMessage(status) as string;
      this.#functions.ReleaseStatus(status);
      throw new OrtError(name, message);
    }
  }

  /** Calls a function whose last parameter returns a handle. @throws OrtError */
  create(name: FunctionName, ...args: Argument[]): Handle {
    const out: [null] = [null];
    this.call(name, ...args, out);
    return (out as unknown as [Handle])[0];
  }

  /** Calls a Release function, which can't fail. */
  release(name: Extract<FunctionName, `Release${string}`>, handle: Handle): void {
    this.#functions[name](handle);
  }
}

let loaded: OrtApi | undefined;
/** Kept for the lifetime of the process: koffi unloads an unreferenced library, and decoded pointers do not count. */
let library: ReturnType<typeof koffi.load> | undefined;

/**
 * Binds the library of onnxruntime-node for this platform, without its telemetry. Call it in the main thread: a
 * worker's variables do not reach the library.
 * @throws Error if there is none
 */
export function loadOrt(): OrtApi {
  if (loaded) return loaded;
  const file = LIBRARY[process.platform];
  if (!file)
    throw new Error(`no ONNX Runtime library for platform ${process.platform}; Sortie runs on linux and darwin`);
  const root = dirname(createRequire(import.meta.url).resolve('onnxruntime-node/package.json'));
  const path = join(root, 'bin', 'napi-v6', process.platform, process.arch, file);
  // The npm package's library reports its use to Microsoft, and keeps a device id and a database in the home folder.
  process.env.ORT_DISABLE_TELEMETRY = '1';
  library = koffi.load(path);
  // A provider calls this library in its exit handler, and koffi may unload it earlier.
  keepLoaded(path);
  const base = library.func('void* OrtGetApiBase()')() as Handle;
  const pointer = (offset: number, signature: string): ((...args: number[]) => unknown) =>
    koffi.decode(koffi.decode(base, offset, 'void*'), koffi.proto(signature)) as (...args: number[]) => unknown;
  const api = pointer(0, 'void* OrtGetApi(uint32_t)')(ORT_API_VERSION) as Handle | null;
  const version = pointer(8, 'const char* OrtGetVersionString()')() as string;
  if (!api) throw new Error(`ONNX Runtime ${version} has no C API version ${ORT_API_VERSION}`);
  loaded = new OrtApi(version, api);
  return loaded;
}
