/**
 * All slots of the KV cache: their places, their bytes, and moves between them.
 *
 * Must not know: requests, scheduling policy.
 */
import type { StagedModel } from '../../model/staged-model.js';
import { Slot } from './slot.js';
import type { ExitIndex } from '../protocol.js';
import type { ExitUnits, Units } from '../execution/units.js';

/** Least unused positions behind a sequence that are worth some hundred calls to release their pages: a chunk. */
const LEAST_TAIL_POSITIONS = 128;

export class SlotTable {
  readonly #slots: Slot[];
  readonly #model: StagedModel;
  readonly #units: Units;
  #clock = 0;
  #reserved: Slot | null = null;

  constructor(model: StagedModel, units: Units) {
    this.#model = model;
    this.#units = units;
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

  /**
   * Takes the last slot out of the slots for sequences. Its contents count as cached, and are evicted first.
   * @throws RangeError if only one slot exists
   */
  reserve(): Slot {
    if (this.#slots.length < 2) throw new RangeError('the only slot belongs to sequences');
    return (this.#reserved ??= this.at(this.#slots.length - 1));
  }

  /** Marks a slot as used now. */
  touch(slot: Slot): void {
    slot.lastUsed = ++this.#clock;
  }

  /** Bytes of KV cache and stored hidden states of a slot, or of its first `length` positions. */
  bytes(slot: Slot, length = Infinity): number {
    const { stages, trunk, branched } = this.#units;
    const frontier = (unit: number): number => Math.min(length, slot.frontier(unit));
    let bytes = 0;
    stages.forEach((stage, unit) => (bytes += frontier(unit) * stage.kv.bytesPerPosition));
    for (let boundary = 1; boundary <= trunk; boundary++) {
      if (this.#model.boundaries[boundary] === null) continue;
      const stored = branched[boundary]
        ? frontier(boundary - 1)
        : frontier(boundary - 1) - (boundary < trunk ? frontier(boundary) : frontier(boundary - 1));
      bytes += stored * this.#model.hiddenBytes;
    }
    return bytes;
  }

  /** Bytes of a sequence of `length` positions at an exit. */
  bytesAt(exit: ExitIndex, length: number): number {
    const { stages, trunk, branched } = this.#units;
    const { needed, stage } = this.#exit(exit);
    const kv = needed.reduce((sum, unit) => sum + (stages[unit]?.kv.bytesPerPosition ?? 0), 0);
    const stored = needed.filter(
      (unit) => unit < trunk && this.#model.boundaries[unit + 1] !== null && (unit === stage || branched[unit + 1]),
    ).length;
    return length * (kv + stored * this.#model.hiddenBytes);
  }

  /** Units that an exit needs. */
  needed(exit: ExitIndex): readonly number[] {
    return this.#exit(exit).needed;
  }

  used(which: 'live' | 'cached'): number {
    return this.#slots.reduce((sum, slot) => sum + (slot.live === (which === 'live') ? this.bytes(slot) : 0), 0);
  }

  /** Empties a slot and releases its memory. */
  drop(slot: Slot): void {
    this.#release(slot, 0);
    slot.frontiers.fill(0);
    slot.tokens = [];
    slot.space = undefined;
    slot.live = false;
  }

  /** The least recently used reusable prefix, or null. The reserved slot comes first, since nothing touches it. */
  leastRecentlyUsed(...except: readonly (Slot | null | undefined)[]): Slot | null {
    let oldest: Slot | null = null;
    for (const slot of this.#slots) {
      if (except.includes(slot) || slot.live || slot.length === 0) continue;
      if (oldest === null || slot.lastUsed < oldest.lastUsed) oldest = slot;
    }
    return oldest;
  }

  /** The empty slot with the lowest index, else the least recently used prefix (dropped) other than `except`, else null. */
  takeFree(except?: Slot): Slot | null {
    const empty = this.#slots.find((slot) => slot !== this.#reserved && !slot.live && slot.length === 0);
    if (empty) return empty;
    const oldest = this.leastRecentlyUsed(except, this.#reserved);
    if (oldest) this.drop(oldest);
    return oldest;
  }

  /**
   * Copies the caches and hidden states of the first `length` positions to another slot. The target may hold some of
   * the same tokens; they stay.
   */
  copyPrefix(from: Slot, to: Slot, length: number): void {
    const { stages, trunk, branched } = this.#units;
    const before = [...to.frontiers];
    stages.forEach((stage, unit) => {
      const end = Math.min(length, from.frontier(unit));
      if (end <= to.frontier(unit)) return;
      stage.kv.copy(from.index, to.index, to.frontier(unit), end);
      to.reach(unit, end);
    });
    for (let boundary = 1; boundary <= trunk; boundary++) {
      const stored = before[boundary - 1] ?? 0;
      const start = branched[boundary] || boundary >= trunk ? stored : Math.max(stored, to.frontier(boundary));
      this.#model.boundaries[boundary]?.copy(from.index, to.index, start, to.frontier(boundary - 1));
    }
    if (length > to.tokens.length) to.tokens = from.tokens.slice(0, length);
  }

  /** Exchanges the places of two slots with their contents. */
  swap(a: Slot, b: Slot): void {
    const { stages } = this.#units;
    stages.forEach((stage, unit) => {
      stage.kv.swap(a.index, b.index, a.frontier(unit), b.frontier(unit));
    });
    for (const store of this.#model.boundaries) store?.swap(a.index, b.index, a.length, b.length);
    this.#slots[a.index] = b;
    this.#slots[b.index] = a;
    [a.index, b.index] = [b.index, a.index];
    // Each place keeps the positions that the other slot wrote beyond the new length.
    [a.touched, b.touched] = [Math.max(a.length, b.touched), Math.max(b.length, a.touched)];
    this.#trim(a);
    this.#trim(b);
  }

  /** Rolls a slot back to at most `length` positions; a long tail's memory is released. */
  truncate(slot: Slot, length: number): void {
    slot.truncate(length);
    this.#trim(slot);
  }

  /** Bytes that `swap` moves. */
  swapBytes(a: Slot, b: Slot): number {
    return this.bytes(a) + this.bytes(b);
  }

  /** Bytes that `swap` moves into pages without memory. */
  freshBytes(a: Slot, b: Slot): number {
    const beyond = (slot: Slot, other: Slot): number =>
      slot.length > other.touched ? this.bytes(slot) * (1 - other.touched / slot.length) : 0;
    return beyond(a, b) + beyond(b, a);
  }

  #trim(slot: Slot): void {
    if (slot.touched - slot.length >= LEAST_TAIL_POSITIONS) this.#release(slot, slot.length);
  }

  #exit(exit: ExitIndex): ExitUnits {
    const units = this.#units.exits[exit];
    if (!units) throw new RangeError(`exit ${exit} does not exist`);
    return units;
  }

  #release(slot: Slot, from: number): void {
    if (!this.#model.device.lazy || slot.touched <= from) return;
    for (const { kv } of this.#units.stages) kv.giveBack(slot.index, from);
    for (const store of this.#model.boundaries) store?.giveBack(slot.index, from);
    slot.touched = from;
  }
}
