/**
 * The KV cache of one stage: each layer has a K and a V buffer of shape [slots, kv_heads, capacity, head_dim]. A batch
 * over consecutive slots is a pointer into it.
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
import type { PromptLayers } from './manifest.js';

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
  readonly #environment: Environment;
  readonly #device: HostDevice;
  readonly #shape: KvShape;
  readonly #readers: Pick<PromptLayers, 'layers' | 'group'>;

  /**
   * @param layers caches
   * @param readers layers that read them, in groups; absent: each cache has one
   */
  constructor(
    environment: Environment,
    device: HostDevice,
    readonly layers: number,
    shape: KvShape,
    readers: Pick<PromptLayers, 'layers' | 'group'> = { layers, group: 1 },
  ) {
    this.#readers = readers;
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

  /**
   * past_k_i, past_v_i (or present_...) over `rows` consecutive slots. Of a prompt exit's layers, each has a present
   * over the cache of its group. The caller disposes them.
   */
  tensors(prefix: 'past' | 'present', slot: number, rows: number): Record<string, Tensor> {
    const { kvHeads, capacity, headDim, type } = this.#shape;
    const { layers, group } = this.#readers;
    return Object.fromEntries(
      Array.from({ length: 2 * (prefix === 'past' ? this.layers : layers) }, (_, index) => {
        const cache = prefix === 'past' ? index >> 1 : Math.floor((index >> 1) / group);
        const buffer = this.#buffers[2 * cache + (index % 2)] ?? 0n;
        const address = buffer + BigInt(slot * this.#slotBytes);
        return [
          `${prefix}_${index % 2 === 0 ? 'k' : 'v'}_${index >> 1}`,
          new Tensor(this.#environment, this.#device.memoryInfo, address, [rows, kvHeads, capacity, headDim], type),
        ];
      }),
    );
  }

  /**
   * key_i and value_i [1, kv_heads, count, head_dim] in other memory, which `take` moves into a slot. The caller
   * disposes them.
   * @param memory of `count` positions of this cache
   */
  fresh(memory: bigint, count: number): Record<string, Tensor> {
    const { kvHeads, headDim, type } = this.#shape;
    return Object.fromEntries(
      this.#buffers.map((_, index) => [
        `${index % 2 === 0 ? 'key' : 'value'}_${index >> 1}`,
        new Tensor(
          this.#environment,
          this.#device.memoryInfo,
          memory + BigInt(index * kvHeads * count * this.#positionBytes),
          [1, kvHeads, count, headDim],
          type,
        ),
      ]),
    );
  }

  /** Moves the positions of `fresh` to [start, start + count) of a slot. */
  take(memory: bigint, count: number, slot: number, start: number): void {
    const bytes = count * this.#positionBytes;
    let source = memory;
    for (const { target } of this.#rows(slot, slot)) {
      this.#device.copy(target + BigInt(start * this.#positionBytes), source, bytes);
      source += BigInt(bytes);
    }
  }

  /** Copies positions [start, end) of a slot to another. */
  copy(from: number, to: number, start: number, end: number): void {
    if (end <= start) return;
    const offset = BigInt(start * this.#positionBytes);
    for (const { source, target } of this.#rows(from, to))
      this.#device.copy(target + offset, source + offset, (end - start) * this.#positionBytes);
  }

  /** Releases the memory of a slot's positions from `from` on. */
  releasePages(slot: number, from: number): void {
    const start = from * this.#positionBytes;
    if (from > 0)
      for (const { source } of this.#rows(slot, slot))
        this.#device.releasePages(source + BigInt(start), this.#rowBytes - start);
    else
      for (const buffer of this.#buffers)
        this.#device.releasePages(buffer + BigInt(slot * this.#slotBytes), this.#slotBytes);
  }

  dispose(): void {
    for (const buffer of this.#buffers) this.#device.free(buffer, this.#shape.slots * this.#slotBytes);
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
