/** Memory of an execution provider: allocation, copies and host transfers. */
import type { Handle } from './ort-api.js';

export interface Device {
  readonly kind: 'cpu' | 'cuda';
  /** Whether memory costs nothing until it is written, and can be released in pieces. */
  readonly lazy: boolean;
  /** Whether binding copies a tensor in host memory, so that each run must bind again. */
  readonly copiesInputsAtBind: boolean;
  /** ONNX Runtime's memory description of this device's tensors. */
  readonly memoryInfo: bigint;
  /** Adds the provider to a session's options. @throws Error that names what to install */
  configure(options: Handle): void;
  /** Reserves zeroed memory on the device. @throws RangeError if there is not enough */
  alloc(bytes: number): bigint;
  free(address: bigint, bytes: number): void;
  /** Copies within the device; the areas must not overlap. */
  copy(target: bigint, source: bigint, bytes: number): void;
  /** Reads `bytes` at `source` into host memory. */
  read(source: bigint, target: Uint8Array): void;
  /** Writes host memory to `target`. */
  write(target: bigint, source: Uint8Array): void;
  /** Releases memory whose content is not needed any longer; the addresses stay valid. */
  giveBack(address: bigint, bytes: number): void;
}
