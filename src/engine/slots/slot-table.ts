/**
 * All slots of the KV cache: who lies where, how many bytes they use, and moving them.
 *
 * Knows: slots and the model's buffers. Must not know: requests, scheduling policy.
 */
import type { StagedModel } from '../../model/staged-model.js';
import { Slot } from './slot.js';
import type { Units } from '../execution/units.js';

/** Positions behind a sequence whose pages are worth some hundred calls to give them back: a prompt's chunk. */
const LEAST_TAIL = 128;

export class SlotTable {
  readonly #slots: Slot[];
  #clock = 0;

  constructor(
    private readonly model: StagedModel,
    private readonly units: Units,
  ) {
    this.#slots = Array.from({ length: model.limits.slots }, (_, index) => new Slot(index, units.stages.length));
  }

  get slots(): readonly Slot[] {
    return this.#slots;
  }

  at(index: number): Slot {
    const slot = this.#slots[index];
    if (!slot) throw new RangeError(`slot ${index} does not exist`);
    return slot;
  }

  /** Marks a slot as used now. */
  touch(slot: Slot): void {
    slot.lastUsed = ++this.#clock;
  }

  /** Bytes of KV cache and kept states that a slot uses, or its first `length` positions. */
  bytes(slot: Slot, length = Infinity): number {
    const { stages, trunk, branched } = this.units;
    const frontier = (unit: number): number => Math.min(length, slot.frontier(unit));
    let bytes = 0;
    stages.forEach((stage, unit) => (bytes += frontier(unit) * stage.kv.bytesPerPosition));
    for (let boundary = 1; boundary <= trunk; boundary++) {
      if (this.model.boundaries[boundary] === null) continue;
      const kept = branched[boundary]
        ? frontier(boundary - 1)
        : frontier(boundary - 1) - (boundary < trunk ? frontier(boundary) : frontier(boundary - 1));
      bytes += kept * this.model.hiddenBytes;
    }
    return bytes;
  }

  /** Bytes of a sequence of `length` positions at an exit. */
  bytesAt(exit: number, length: number): number {
    const { stages, exits, trunk, branched } = this.units;
    const plan = exits[exit];
    if (!plan) return 0;
    const kv = plan.needed.reduce((sum, unit) => sum + (stages[unit]?.kv.bytesPerPosition ?? 0), 0);
    const kept = plan.needed.filter(
      (unit) => unit < trunk && this.model.boundaries[unit + 1] !== null && (unit === plan.stage || branched[unit + 1]),
    ).length;
    return length * (kv + kept * this.model.hiddenBytes);
  }

  /** Units that an exit needs. */
  needed(exit: number): readonly number[] {
    return this.units.exits[exit]?.needed ?? [];
  }

  used(which: 'live' | 'cached'): number {
    return this.#slots.reduce((sum, slot) => sum + (slot.live === (which === 'live') ? this.bytes(slot) : 0), 0);
  }

  /** Forgets a slot's content and gives its memory back. */
  drop(slot: Slot): void {
    this.#giveBack(slot, 0);
    slot.frontiers.fill(0);
    slot.tokens = [];
    slot.live = false;
  }

  /** The reusable prefix that was used longest ago, or null. */
  leastRecentlyUsed(except?: Slot): Slot | null {
    let oldest: Slot | null = null;
    for (const slot of this.#slots)
      if (slot !== except && !slot.live && slot.length > 0 && (oldest === null || slot.lastUsed < oldest.lastUsed))
        oldest = slot;
    return oldest;
  }

  /** The empty slot with the lowest index, else the least recently used prefix but `except` (dropped), else null. */
  takeFree(except?: Slot): Slot | null {
    const empty = this.#slots.find((slot) => !slot.live && slot.length === 0);
    if (empty) return empty;
    const oldest = this.leastRecentlyUsed(except);
    if (oldest) this.drop(oldest);
    return oldest;
  }

  /**
   * Copies the first `length` positions' caches and kept states of one slot into another that holds fewer of the same
   * tokens, or none: what it has stays.
   */
  copyPrefix(from: Slot, to: Slot, length: number): void {
    const { stages, trunk, branched } = this.units;
    const before = [...to.frontiers];
    stages.forEach((stage, unit) => {
      const end = Math.min(length, from.frontier(unit));
      if (end <= to.frontier(unit)) return;
      stage.kv.copy(from.index, to.index, to.frontier(unit), end);
      to.reach(unit, end);
    });
    for (let boundary = 1; boundary <= trunk; boundary++) {
      const kept = before[boundary - 1] ?? 0;
      const start = branched[boundary] || boundary >= trunk ? kept : Math.max(kept, to.frontier(boundary));
      this.model.boundaries[boundary]?.copy(from.index, to.index, start, to.frontier(boundary - 1));
    }
    if (length > to.tokens.length) to.tokens = from.tokens.slice(0, length);
  }

  /** Exchanges the places of two slots, contents and all. */
  swap(a: Slot, b: Slot): void {
    const { stages } = this.units;
    stages.forEach((stage, unit) => {
      stage.kv.swap(a.index, b.index, a.frontier(unit), b.frontier(unit));
    });
    for (const store of this.model.boundaries) store?.swap(a.index, b.index, a.length, b.length);
    this.#slots[a.index] = b;
    this.#slots[b.index] = a;
    [a.index, b.index] = [b.index, a.index];
    // Each has what the other wrote in its place, beyond its own length as well.
    [a.touched, b.touched] = [Math.max(a.length, b.touched), Math.max(b.length, a.touched)];
    this.#trim(a);
    this.#trim(b);
  }

  /** Rolls a slot back to at most `length` positions; the memory of a long rest goes back. */
  truncate(slot: Slot, length: number): void {
    slot.truncate(length);
    this.#trim(slot);
  }

  /** Bytes that `swap` would move. */
  swapBytes(a: Slot, b: Slot): number {
    return this.bytes(a) + this.bytes(b);
  }

  /** How many of them it would move into pages that hold nothing yet. */
  freshBytes(a: Slot, b: Slot): number {
    const beyond = (slot: Slot, other: Slot): number =>
      slot.length > other.touched ? this.bytes(slot) * (1 - other.touched / slot.length) : 0;
    return beyond(a, b) + beyond(b, a);
  }

  #trim(slot: Slot): void {
    if (slot.touched - slot.length >= LEAST_TAIL) this.#giveBack(slot, slot.length);
  }

  #giveBack(slot: Slot, from: number): void {
    if (!this.model.device.lazy || slot.touched <= from) return;
    for (const { kv } of this.units.stages) kv.giveBack(slot.index, from);
    for (const store of this.model.boundaries) store?.giveBack(slot.index, from);
    slot.touched = from;
  }
}
