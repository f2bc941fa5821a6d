/**
 * The KV caches of one stage, each a K and a V buffer of shape [slots, kv_heads, capacity, head_dim]. A batch over
 * consecutive slots is a pointer into it.
 *
 * The capacity of all slots is only address space. A slot costs the pages of the positions that were written,
 * until `releasePages` releases them.
 *
 * Hidden states at one boundary, [slots, capacity, hidden]; deeper stages that lag behind read them to catch up.
 *
 * Must not know: sequences, and which positions are valid (the engine's frontiers).
 */
import type { HostDevice } from '../runtime/device.js';
import type { Environment } from '../runtime/environment.js';
import { type ElementType, elementBytes, Tensor } from '../runtime/tensor.js';

export interface KvShape {
  readonly slots: number;
  /** Positions per slot. */
  readonly capacity: number;
  readonly type: ElementType;
}

/** K or V of a cache. */
interface Buffer {
  readonly memory: bigint;
  readonly kvHeads: number;
  readonly headDim: number;
  /** Of one head. */
  readonly positionBytes: number;
  readonly rowBytes: number;
  readonly slotBytes: number;
}

export class KvCache {
  /** K and V of cache i are buffers 2i and 2i + 1. */
  readonly #buffers: readonly Buffer[];
  readonly #environment: Environment;
  readonly #device: HostDevice;
  readonly #shape: KvShape;
  readonly #readers: readonly number[];

  /**
   * @param heads KV heads and head size of each cache
   * @param readers the cache of each layer
   */
  constructor(
    environment: Environment,
    device: HostDevice,
    heads: readonly (readonly [number, number])[],
    shape: KvShape,
    readers: readonly number[],
  ) {
    this.#readers = readers;
    this.#environment = environment;
    this.#device = device;
    this.#shape = shape;
    this.#buffers = heads
      .flatMap((each) => [each, each])
      .map(([kvHeads, headDim]) => {
        const positionBytes = headDim * elementBytes(shape.type);
        const rowBytes = shape.capacity * positionBytes;
        const slotBytes = kvHeads * rowBytes;
        return { memory: device.alloc(shape.slots * slotBytes), kvHeads, headDim, positionBytes, rowBytes, slotBytes };
      });
  }

  /** Bytes of one position of one sequence in this stage. */
  get bytesPerPosition(): number {
    return this.#buffers.reduce((sum, { kvHeads, positionBytes }) => sum + kvHeads * positionBytes, 0);
  }

  /**
   * past_k_i, past_v_i (or present_...) over `rows` consecutive slots. Of a prompt exit's layers, each has a present
   * over the cache of its group. The caller disposes them.
   */
  tensors(prefix: 'past' | 'present', slot: number, rows: number): Record<string, Tensor> {
    const { capacity, type } = this.#shape;
    const caches = prefix === 'past' ? [...new Set(this.#readers)].sort((a, b) => a - b) : this.#readers;
    return Object.fromEntries(
      caches.flatMap((cache, index) =>
        this.#buffers.slice(2 * cache, 2 * cache + 2).map(({ memory, kvHeads, headDim, slotBytes }, i) => {
          const address = memory + BigInt(slot * slotBytes);
          const dims = [rows, kvHeads, capacity, headDim];
          const tensor = new Tensor(this.#environment, this.#device.memoryInfo, address, dims, type);
          return [`${prefix}_${i === 0 ? 'k' : 'v'}_${index}`, tensor];
        }),
      ),
    );
  }

  /**
   * key_i and value_i [1, kv_heads, count, head_dim] in other memory, which `take` moves into a slot. The caller
   * disposes them.
   * @param memory of `count` positions of this cache
   */
  fresh(memory: bigint, count: number): Record<string, Tensor> {
    let address = memory;
    return Object.fromEntries(
      this.#buffers.map(({ kvHeads, headDim, positionBytes }, index) => {
        const dims = [1, kvHeads, count, headDim];
        const tensor = new Tensor(this.#environment, this.#device.memoryInfo, address, dims, this.#shape.type);
        address += BigInt(kvHeads * count * positionBytes);
        return [`${index % 2 === 0 ? 'key' : 'value'}_${index >> 1}`, tensor];
      }),
    );
  }

  /** Moves the positions of `fresh` to [start, start + count) of a slot. */
  take(memory: bigint, count: number, slot: number, start: number): void {
    let source = memory;
    for (const { target, of } of this.#rows(slot, slot)) {
      const bytes = count * of.positionBytes;
      this.#device.copy(target + BigInt(start * of.positionBytes), source, bytes);
      source += BigInt(bytes);
    }
  }

  /** Copies positions [start, end) of a slot to another. */
  copy(from: number, to: number, start: number, end: number): void {
    if (end <= start) return;
    for (const { source, target, of } of this.#rows(from, to)) {
      const offset = BigInt(start * of.positionBytes);
      this.#device.copy(target + offset, source + offset, (end - start) * of.positionBytes);
    }
  }

  /** Releases the memory of a slot's positions from `from` on. */
  releasePages(slot: number, from: number): void {
    if (from > 0)
      for (const { source, of } of this.#rows(slot, slot)) {
        const start = from * of.positionBytes;
        this.#device.releasePages(source + BigInt(start), of.rowBytes - start);
      }
    else
      for (const { memory, slotBytes } of this.#buffers)
        this.#device.releasePages(memory + BigInt(slot * slotBytes), slotBytes);
  }

  dispose(): void {
    for (const { memory, slotBytes } of this.#buffers) this.#device.free(memory, this.#shape.slots * slotBytes);
  }

  /** The rows of each head, for copies between slots. */
  *#rows(from: number, to: number): Generator<{ source: bigint; target: bigint; of: Buffer }> {
    for (const of of this.#buffers) {
      const between = BigInt((to - from) * of.slotBytes);
      for (let head = 0; head < of.kvHeads; head++) {
        const source = of.memory + BigInt(from * of.slotBytes + head * of.rowBytes);
        yield { source, target: source + between, of };
      }
    }
  }
}

export class HiddenStateCache {
  readonly #base: bigint;
  readonly #slotBytes: number;
  readonly #device: HostDevice;
  readonly #slots: number;

  /** @param positionBytes bytes of one hidden state */
  constructor(
    device: HostDevice,
    slots: number,
    capacity: number,
    readonly positionBytes: number,
  ) {
    this.#device = device;
    this.#slots = slots;
    this.#slotBytes = capacity * positionBytes;
    this.#base = device.alloc(slots * this.#slotBytes);
  }

  /** Address of a slot's hidden state at a position; later positions follow it. */
  address(slot: number, position: number): bigint {
    return this.#base + BigInt(slot * this.#slotBytes + position * this.positionBytes);
  }

  /** Copies positions [start, end) of a slot to another. */
  copy(from: number, to: number, start: number, end: number): void {
    if (end > start)
      this.#device.copy(this.address(to, start), this.address(from, start), (end - start) * this.positionBytes);
  }

  /** Releases the memory of a slot's positions from `from` on. */
  releasePages(slot: number, from: number): void {
    this.#device.releasePages(this.address(slot, from), this.#slotBytes - from * this.positionBytes);
  }

  dispose(): void {
    this.#device.free(this.#base, this.#slots * this.#slotBytes);
  }
}
