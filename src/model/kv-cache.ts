/**
 * The KV cache of one stage: each layer has a K and a V buffer of shape [slots, kv_heads, capacity, head_dim]. A batch
 * over consecutive slots is a pointer into it.
 *
 * The capacity of all slots is only address space. A sequence costs the pages of the positions that it
 * wrote, and `releasePages` releases them.
 *
 * Must not know: sequences, and which positions are valid (the engine's frontiers).
 */
import type { HostDevice } from '../runtime/device.js';
import type { Environment } from '../runtime/environment.js';
import { type ElementType, elementBytes, Tensor } from '../runtime/tensor.js';

export interface KvShape {
  readonly slots: number;
  readonly kvHeads: number;
  /** Positions per slot. */
  readonly capacity: number;
  readonly headDim: number;
  readonly type: ElementType;
}

export class KvCache {
  /** K and V of layer i are buffers 2i and 2i + 1. */
  readonly #buffers: readonly bigint[];
  readonly #positionBytes: number;
  readonly #rowBytes: number;
  readonly #slotBytes: number;
  #swapSpace: bigint | null = null;
  readonly #environment: Environment;
  readonly #device: HostDevice;
  readonly #shape: KvShape;

  constructor(
    environment: Environment,
    device: HostDevice,
    readonly layers: number,
    shape: KvShape,
  ) {
    this.#environment = environment;
    this.#device = device;
    this.#shape = shape;
    this.#positionBytes = shape.headDim * elementBytes(shape.type);
    this.#rowBytes = shape.capacity * this.#positionBytes;
    this.#slotBytes = shape.kvHeads * this.#rowBytes;
    this.#buffers = Array.from({ length: 2 * layers }, () => device.alloc(shape.slots * this.#slotBytes));
  }

  /** Bytes of one position of one sequence in this stage. */
  get bytesPerPosition(): number {
    return this.#buffers.length * this.#shape.kvHeads * this.#positionBytes;
  }

  /** past_k_i, past_v_i (or present_...) over `rows` consecutive slots. The caller disposes them. */
  tensors(prefix: 'past' | 'present', slot: number, rows: number): Record<string, Tensor> {
    const { kvHeads, capacity, headDim, type } = this.#shape;
    return Object.fromEntries(
      this.#buffers.map((buffer, index) => [
        `${prefix}_${index % 2 === 0 ? 'k' : 'v'}_${index >> 1}`,
        new Tensor(
          this.#environment,
          this.#device.memoryInfo,
          buffer + BigInt(slot * this.#slotBytes),
          [rows, kvHeads, capacity, headDim],
          type,
        ),
      ]),
    );
  }

  /** Copies positions [start, end) of a slot to another. */
  copy(from: number, to: number, start: number, end: number): void {
    if (end <= start) return;
    const offset = BigInt(start * this.#positionBytes);
    for (const { source, target } of this.#rows(from, to))
      this.#device.copy(target + offset, source + offset, (end - start) * this.#positionBytes);
  }

  /** Exchanges two slots; positions [0, lengthA) and [0, lengthB) are valid. */
  swap(a: number, b: number, lengthA: number, lengthB: number): void {
    if (lengthA === 0 || lengthB === 0) {
      this.copy(a, b, 0, lengthA);
      this.copy(b, a, 0, lengthB);
      return;
    }
    this.#swapSpace ??= this.#device.alloc(this.#rowBytes);
    const space = this.#swapSpace;
    for (const { source, target } of this.#rows(a, b)) {
      this.#device.copy(space, source, lengthA * this.#positionBytes);
      this.#device.copy(source, target, lengthB * this.#positionBytes);
      this.#device.copy(target, space, lengthA * this.#positionBytes);
    }
  }

  /** Releases the memory of a slot's positions from `from` on. */
  releasePages(slot: number, from: number): void {
    const start = from * this.#positionBytes;
    for (const { source } of this.#rows(slot, slot))
      this.#device.releasePages(source + BigInt(start), this.#rowBytes - start);
  }

  dispose(): void {
    for (const buffer of this.#buffers) this.#device.free(buffer, this.#shape.slots * this.#slotBytes);
    if (this.#swapSpace !== null) this.#device.free(this.#swapSpace, this.#rowBytes);
  }

  *#rows(from: number, to: number): Generator<{ source: bigint; target: bigint }> {
    for (const buffer of this.#buffers)
      for (let head = 0; head < this.#shape.kvHeads; head++)
        yield {
          source: buffer + BigInt(from * this.#slotBytes + head * this.#rowBytes),
          target: buffer + BigInt(to * this.#slotBytes + head * this.#rowBytes),
        };
  }
}
