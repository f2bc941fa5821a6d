/**
 * Where tensors live: allocation, copies and host transfers, the same for every execution provider.
 *
 * Knows: addresses and bytes. Must not know: graphs, sequences.
 */

export interface Device {
  readonly kind: 'cpu' | 'cuda';
  /** True where memory costs nothing until it is written and can be given back in pieces. */
  readonly lazy: boolean;
  /** True where a tensor in host memory is copied when it is bound, so each run must bind again. */
  readonly copiesInputsAtBind: boolean;
  /** ONNX Runtime's memory description of this device's tensors. */
  readonly memoryInfo: bigint;
  /** Reserves zeroed memory on the device. @throws RangeError when there is none. */
  alloc(bytes: number): bigint;
  free(address: bigint, bytes: number): void;
  /** Copies within the device; the areas must not overlap. */
  copy(target: bigint, source: bigint, bytes: number): void;
  /** Reads `bytes` at `source` into host memory. */
  read(source: bigint, target: Uint8Array): void;
  /** Writes host memory to `target`. */
  write(target: bigint, source: Uint8Array): void;
  /** Tells that the content is no longer needed. */
  giveBack(address: bigint, bytes: number): void;
}
