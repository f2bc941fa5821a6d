/** Positions that the units of a paged model run together: for each unit one part of each slot. */
import type { BatchPart } from '../model/control.js';
import type { Slot } from '../scheduler/kv/slot.js';
import type { Frontier, Span } from './step-batch.js';

/** Positions of a slot that a unit runs. */
export interface Part extends BatchPart {
  readonly slot: Slot;
  count: number;
  /** Place of the first position among those of the unit, once placed. */
  first: number;
}

export class PagedWork {
  /** Token ids of the positions of the first unit, in the order of its parts; filled by `place`. */
  readonly ids: number[] = [];
  /** By unit, in the order in which the spans came. */
  readonly #parts: readonly Map<Slot, Part>[];
  readonly #keys: ReadonlyMap<number, number>;

  /** @param keys numbers of keys graphs among the units, by the unit behind a prompt exit that has them */
  constructor(units: number, keys: ReadonlyMap<number, number>) {
    this.#parts = Array.from({ length: units }, () => new Map<Slot, Part>());
    this.#keys = keys;
  }

  of(unit: number): readonly Part[] {
    return [...(this.#parts[unit]?.values() ?? [])];
  }

  find(unit: number, slot: Slot): Part | undefined {
    return this.#parts[unit]?.get(slot);
  }

  /**
   * Adds the positions that the units of a span lack. Those of a slot with a part go on behind it.
   * @param pages the slot's block table
   * @param reads whether the states are read, as those of a row. Otherwise layers behind a prompt exit make their keys
   * and values alone.
   * @returns the first position of the last unit that lacks any; null where none does
   */
  add({ slot, exit, end }: Span, frontier: Frontier, pages: readonly number[], reads: boolean): number | null {
    let last: number | null = null;
    for (const unit of exit.needed) {
      const start = frontier(slot, unit);
      if (start >= end) continue;
      last = start;
      this.#extend(reads ? unit : (this.#keys.get(unit) ?? unit), slot, start, end, pages);
    }
    return last;
  }

  #extend(unit: number, slot: Slot, start: number, end: number, pages: readonly number[]): void {
    const part = this.find(unit, slot);
    if (part === undefined) this.#parts[unit]?.set(slot, { slot, past: start, count: end - start, pages, first: NaN });
    else part.count += end - start;
  }

  /** Gives each part its place in its unit's batch. @param draft tokens behind those of a slot */
  place(draft: readonly number[]): void {
    for (const parts of this.#parts) {
      let first = 0;
      for (const part of parts.values()) {
        part.first = first;
        first += part.count;
      }
    }
    for (const { slot, past, count } of this.of(0))
      for (let at = past; at < past + count; at++)
        this.ids.push(slot.tokens[at] ?? draft[at - slot.tokens.length] ?? NaN);
  }
}
