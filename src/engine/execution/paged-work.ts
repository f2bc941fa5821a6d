/** Positions that the units of a paged model run together: for each unit one part of each slot. */
import type { BatchPart } from '../model/control.js';
import type { Slot } from '../scheduler/kv/slot.js';
import type { PromptLayers } from '../model/manifest.js';
import { type Chunk, type Frontier, keysEnd, type Span } from './step-batch.js';

/** The keys graphs of a unit behind a prompt exit. */
export interface KeysUnit {
  /** Their number among the units. */
  readonly number: number;
  readonly prompt: PromptLayers;
}

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
  readonly #keys: ReadonlyMap<number, KeysUnit>;

  /** @param units with the keys graphs, by the unit that has them */
  constructor(units: number, keys: ReadonlyMap<number, KeysUnit>) {
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
  add(
    span: Span & Pick<Chunk, 'answerFrom'>,
    frontier: Frontier,
    pages: readonly number[],
    reads: boolean,
  ): number | null {
    const { slot, exit, end } = span;
    let last: number | null = null;
    for (const unit of exit.needed) {
      const start = frontier(slot, unit);
      if (start >= end) continue;
      last = start;
      const keys = reads ? undefined : this.#keys.get(unit);
      const between = keys === undefined ? start : keysEnd(keys.prompt, span, start);
      if (keys !== undefined) this.#extend(keys.number, slot, start, between, pages);
      this.#extend(unit, slot, between, end, pages);
    }
    return last;
  }

  #extend(unit: number, slot: Slot, start: number, end: number, pages: readonly number[]): void {
    if (start >= end) return;
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
