/** Positions that the units of a paged model have to run together: for each unit one part of each slot. */
import type { BatchPart } from '../../model/control.js';
import type { Slot } from '../slots/slot.js';

/** Positions of a slot that a unit has to run. */
export interface Part extends BatchPart {
  readonly slot: Slot;
  count: number;
  /** Tokens of the positions, in the first unit: a rejected draft leaves the slot before the part runs. */
  readonly ids: number[];
  /** Place of the first position among those of the unit, once placed. */
  first: number;
}

export class Work {
  readonly #parts: Part[][];
  /** The part of each slot in each unit, by the slot's index. */
  readonly #bySlot: (Part | undefined)[][];

  constructor(units: number) {
    this.#parts = Array.from({ length: units }, () => []);
    this.#bySlot = Array.from({ length: units }, () => []);
  }

  /** The parts of a unit, in the order in which they came. */
  of(unit: number): readonly Part[] {
    return this.#parts[unit] ?? [];
  }

  find(unit: number, slot: Slot): Part | undefined {
    return this.#bySlot[unit]?.[slot.index];
  }

  /** Whether any unit has a part of the slot. */
  has(slot: Slot): boolean {
    return this.#bySlot.some((parts) => parts[slot.index] !== undefined);
  }

  /** The part of a slot in a unit; a new one is empty and begins at `start`. */
  part(unit: number, slot: Slot, start: number, pages: readonly number[]): Part {
    const known = this.find(unit, slot);
    if (known !== undefined) return known;
    const [parts, bySlot] = [this.#parts[unit], this.#bySlot[unit]];
    if (parts === undefined || bySlot === undefined) throw new RangeError(`unit ${unit} does not exist`);
    const part = { slot, past: start, count: 0, pages, ids: [], first: NaN };
    parts.push(part);
    bySlot[slot.index] = part;
    return part;
  }

  /** Gives each part its place in its unit's batch. */
  place(): void {
    for (const parts of this.#parts) {
      let first = 0;
      for (const part of parts) {
        part.first = first;
        first += part.count;
      }
    }
  }

  clear(): void {
    for (const [unit, parts] of this.#parts.entries()) {
      for (const { slot } of parts) this.#bySlot[unit]?.splice(slot.index, 1, undefined);
      parts.length = 0;
    }
  }
}
