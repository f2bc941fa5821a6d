/** Slots of equal size in every KV buffer, whose pages the system commits on their first write. */
import type { Stage, StagedModel } from '../../model/staged-model.js';
import type { ExitUnits, Units } from './units.js';
import type { Claim, KvMemory, Swaps } from './kv-account.js';
import type { Slot } from './slot.js';

/** Least unused positions behind a sequence that are worth some hundred calls to release their pages: a chunk. */
const LEAST_TAIL_POSITIONS = 128;

export class SlotMemory implements KvMemory, Swaps {
  readonly granularity = 1;
  readonly swaps = this;
  readonly #model: StagedModel;
  readonly #units: Units<Stage>;

  constructor(model: StagedModel, units: Units<Stage>) {
    this.#model = model;
    this.#units = units;
  }

  bytes(slot: Slot, length: number): number {
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

  bytesAt({ needed, stage }: ExitUnits, length: number): number {
    const { stages, trunk, branched } = this.#units;
    const kv = needed.reduce((sum, unit) => sum + (stages[unit]?.kv.bytesPerPosition ?? 0), 0);
    const stored = needed.filter(
      (unit) => unit < trunk && this.#model.boundaries[unit + 1] !== null && (unit === stage || branched[unit + 1]),
    ).length;
    return length * (kv + stored * this.#model.hiddenBytes);
  }

  held(slots: readonly Slot[]): number {
    return slots.reduce((sum, slot) => sum + this.bytes(slot, Infinity), 0);
  }

  demand(claims: readonly Claim[]): number {
    return claims.reduce((sum, { slot, exit, length }) => {
      const ahead = this.bytesAt(exit, length);
      return sum + (slot ? Math.max(ahead, this.bytes(slot, Infinity)) : ahead);
    }, 0);
  }

  share(from: Slot, to: Slot, length: number): void {
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
  }

  /** A long tail's memory is released. */
  rewind(slot: Slot, length: number): void {
    slot.truncate(length);
    this.#trim(slot);
  }

  release(slot: Slot): void {
    this.#release(slot, 0);
    slot.frontiers.fill(0);
  }

  swap(a: Slot, b: Slot): void {
    this.#units.stages.forEach((stage, unit) => {
      stage.kv.swap(a.index, b.index, a.frontier(unit), b.frontier(unit));
    });
    for (const store of this.#model.boundaries) store?.swap(a.index, b.index, a.length, b.length);
    [a.index, b.index] = [b.index, a.index];
    // Each place keeps the positions that the other slot wrote beyond the new length.
    [a.touched, b.touched] = [Math.max(a.length, b.touched), Math.max(b.length, a.touched)];
    this.#trim(a);
    this.#trim(b);
  }

  swapBytes(a: Slot, b: Slot): number {
    return this.held([a, b]);
  }

  freshBytes(a: Slot, b: Slot): number {
    const beyond = (slot: Slot, other: Slot): number =>
      slot.length > other.touched ? this.bytes(slot, Infinity) * (1 - other.touched / slot.length) : 0;
    return beyond(a, b) + beyond(b, a);
  }

  #trim(slot: Slot): void {
    if (slot.touched - slot.length >= LEAST_TAIL_POSITIONS) this.#release(slot, slot.length);
  }

  #release(slot: Slot, from: number): void {
    if (slot.touched <= from) return;
    for (const { kv } of this.#units.stages) kv.giveBack(slot.index, from);
    for (const store of this.#model.boundaries) store?.giveBack(slot.index, from);
    slot.touched = from;
  }
}
