/** Tensors over memory that they do not own. */
import type { Environment } from './environment.js';
import { reserve, viewMemory } from './libc.js';
import type { Handle } from './ort-api.js';

/** ONNXTensorElementDataType and bytes per element. */
const ELEMENT = {
  f32: { code: 1, bytes: 4 },
  u8: { code: 2, bytes: 1 },
  i8: { code: 3, bytes: 1 },
  i32: { code: 6, bytes: 4 },
  i64: { code: 7, bytes: 8 },
  f16: { code: 10, bytes: 2 },
} as const;

export type ElementType = keyof typeof ELEMENT;

/** Bytes of one element. */
export function elementBytes(type: ElementType): number {
  return ELEMENT[type].bytes;
}

/** An OrtValue over memory at a fixed address. It owns the OrtValue, not the memory. */
export class Tensor {
  readonly handle: Handle;

  constructor(
    readonly environment: Environment,
    memoryInfo: Handle,
    readonly address: bigint,
    readonly dims: readonly number[],
    readonly type: ElementType,
  ) {
    const count = dims.reduce((product, dim) => product * dim, 1);
    this.handle = environment.ort.create(
      'CreateTensorWithDataAsOrtValue',
      memoryInfo,
      address,
      count * ELEMENT[type].bytes,
      BigInt64Array.from(dims, BigInt),
      dims.length,
      ELEMENT[type].code,
    );
  }

  dispose(): void {
    this.environment.ort.release('ReleaseValue', this.handle);
  }
}

/** Host memory with a typed view, in pages of its own: V8 may move a small typed array, but never mapped memory. */
export class HostBuffer<T> {
  readonly address: bigint;
  readonly data: T;

  constructor(
    View: new (memory: ArrayBuffer, offset: number, length: number) => T,
    readonly type: ElementType,
    length: number,
  ) {
    const bytes = length * elementBytes(type);
    this.address = reserve(bytes);
    this.data = new View(viewMemory(this.address, bytes), 0, length);
  }

  /** A tensor over the elements from `first` on. The caller disposes it. */
  tensor(environment: Environment, dims: readonly number[], first = 0): Tensor {
    const address = this.address + BigInt(first * elementBytes(this.type));
    return new Tensor(environment, environment.hostMemory, address, dims, this.type);
  }
}

export const hostF32 = (length: number) => new HostBuffer(Float32Array, 'f32', length);
export const hostI32 = (length: number) => new HostBuffer(Int32Array, 'i32', length);
export const hostI64 = (length: number) => new HostBuffer(BigInt64Array, 'i64', length);
