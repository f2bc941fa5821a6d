/**
 * Kept hidden states of one boundary, [slots, capacity, hidden]: what deeper stages that lag catch up over.
 *
 * Knows: the layout. Must not know: which positions are kept (engine).
 */
import type { Device } from '../runtime/device.js';

export class HiddenStateCache {
  readonly #base: bigint;
  readonly #slotBytes: number;
  #swapSpace: bigint | null = null;

  /** @param positionBytes bytes of one hidden state */
  constructor(
    private readonly device: Device,
    private readonly slots: number,
    capacity: number,
    readonly positionBytes: number,
  ) {
    this.#slotBytes = capacity * positionBytes;
    this.#base = device.alloc(slots * this.#slotBytes);
  }

  /** Where a slot's hidden state of a position lies; later positions follow it. */
  address(slot: number, position: number): bigint {
    return this.#base + BigInt(slot * this.#slotBytes + position * this.positionBytes);
  }

  /** Copies positions [start, end) of a slot to another. */
  copy(from: number, to: number, start: number, end: number): void {
    if (end > start)
      this.device.copy(this.address(to, start), this.address(from, start), (end - start) * this.positionBytes);
  }

  /** Exchanges two slots of which positions [0, lengthA) and [0, lengthB) may be valid. */
  swap(a: number, b: number, lengthA: number, lengthB: number): void {
    const bytesA = lengthA * this.positionBytes;
    const bytesB = lengthB * this.positionBytes;
    this.#swapSpace ??= this.device.alloc(this.#slotBytes);
    if (bytesA > 0) this.device.copy(this.#swapSpace, this.address(a, 0), bytesA);
    if (bytesB > 0) this.device.copy(this.address(a, 0), this.address(b, 0), bytesB);
    if (bytesA > 0) this.device.copy(this.address(b, 0), this.#swapSpace, bytesA);
  }

  /** Tells that a slot's positions from `from` on are no longer needed. */
  giveBack(slot: number, from: number): void {
    this.device.giveBack(this.address(slot, from), this.#slotBytes - from * this.positionBytes);
  }

  dispose(): void {
    this.device.free(this.#base, this.slots * this.#slotBytes);
    if (this.#swapSpace !== null) this.device.free(this.#swapSpace, this.#slotBytes);
  }
}
