/** Hidden states at one boundary, [slots, capacity, hidden]; deeper stages that lag behind read them to catch up. */
import type { HostDevice } from '../runtime/device.js';

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
