/** Memory of an execution provider: allocation and transfers between it and the host. */
import type { Handle } from './ort-api.js';
import type { Environment } from './environment.js';
import { copyBytes, releasePages, reserve, unreserve, viewMemory } from './libc.js';

export type DeviceKind = 'cpu' | 'cuda' | 'webgpu';

/** Host memory to write to the beginning of an allocation. */
export interface Upload {
  readonly target: bigint;
  readonly source: Uint8Array;
}

/** A GPU as its driver describes it; null for what the driver does not say. */
export interface DeviceInfo {
  /** The provider's number of the device. */
  readonly index: number;
  readonly name: string;
  /** Driver and its version. */
  readonly driver: string | null;
  readonly memoryBytes: number | null;
  /** Memory that no process has taken, at the time of the call. */
  readonly freeBytes: number | null;
}

export interface Device {
  readonly kind: DeviceKind;
  /** Whether binding copies a tensor in host memory, so that each run must bind again. */
  readonly copiesInputsAtBind: boolean;
  /**
   * Most bytes of an allocation that kernels read whole: past it, the provider's results are wrong, without an error.
   */
  readonly maxBufferBytes: number;
  /** ONNX Runtime's memory description of this device's tensors. */
  readonly memoryInfo: bigint;
  /** The GPU that computes; null for the CPU, or where the system does not name it. */
  info(): DeviceInfo | null;
  /**
   * Adds the provider to a session's options.
   * @param captures whether runs of the session may be captured as a graph (BindingSpec)
   * @throws Error that names what to install
   */
  configure(options: Handle, captures: boolean): void;
  /**
   * Reserves zeroed memory. The result is an address, or the handle of a buffer: a tensor may begin at it, and no
   * tensor may begin inside.
   * @throws RangeError if there is not enough
   */
  alloc(bytes: number): bigint;
  /** Writes host memory. Runs that start later see it; the sources are free when the call returns. */
  upload(copies: readonly Upload[]): void;
  /** Reads the first bytes of an allocation, after all earlier runs and uploads. The only call that waits for them. */
  download(source: bigint, target: Uint8Array): void;
}

/** Inputs that a step's runs read: areas of device memory, each with its image in main memory. */
export interface InputAreas {
  readonly addresses: readonly bigint[];
  readonly hosts: readonly Uint8Array[];
  /**
   * Copies the first bytes of each image, at once where memory has addresses. Runs that start later see them; the
   * images are free when the call returns.
   * @param bytes of each area; 0 for none
   */
  upload(bytes: readonly number[]): void;
}

export interface Gpu extends Device {
  /** Whether attention computes each part of a batch at the length of the longest one. */
  readonly padsParts: boolean;
  allocInputs(sizes: readonly number[]): InputAreas;
  /** Frees all memory that it has reserved. No session may use it any longer. */
  dispose(): void;
}

/** A device whose memory has addresses, in main memory. */
export interface HostDevice extends Device {
  free(memory: bigint, bytes: number): void;
  /** Copies within the device; the areas must not overlap. */
  copy(target: bigint, source: bigint, bytes: number): void;
  /** Releases memory whose content is not needed any longer; the addresses stay valid. */
  releasePages(address: bigint, bytes: number): void;
}

export function cpuDevice(environment: Environment): HostDevice {
  return {
    kind: 'cpu',
    copiesInputsAtBind: false,
    memoryInfo: environment.hostMemory,
    maxBufferBytes: Infinity,
    info: () => null,
    configure: () => undefined,
    alloc: reserve,
    free: unreserve,
    copy: copyBytes,
    upload: (copies) => {
      for (const { target, source } of copies) new Uint8Array(viewMemory(target, source.byteLength)).set(source);
    },
    download: (source, target) => {
      target.set(new Uint8Array(viewMemory(source, target.byteLength)));
    },
    releasePages,
  };
}
