/**
 * One slot of the KV cache: tokens, and for each unit its frontier (positions it has processed).
 *
 * Must not know: memory (SlotTable moves it), requests.
 *
 * Invariants: a deeper trunk stage never leads a shallower one. Boundary b stores hidden states from the frontier
 * of its next stage up to the frontier of its previous stage. If an exit block reads b, it stores those of all
 * positions.
 */
export class Slot {
  /** Tokens whose positions a unit may have processed; while the slot is live, the sequence's own array. */
  tokens: number[] = [];
  /** The prefix space of the sequence that filled the slot (SequenceRequest.prefixSpace). */
  space: string | undefined = undefined;
  readonly frontiers: Int32Array;
  /** A live sequence owns the slot; otherwise it is a reusable prefix, or empty. */
  live = false;
  /** Logical time of its last use, for eviction of the least recently used prefix. */
  lastUsed = 0;
  /** By unit, positions of the slot's memory that the system holds for it. */
  readonly written: Int32Array;

  /** @param index place in the KV buffers */
  constructor(
    readonly index: number,
    units: number,
  ) {
    this.frontiers = new Int32Array(units);
    this.written = new Int32Array(units);
  }

  frontier(unit: number): number {
    return this.frontiers[unit] ?? 0;
  }

  /** Least frontier among units. */
  least(units: readonly number[]): number {
    let least = Infinity;
    for (const unit of units) least = Math.min(least, this.frontier(unit));
    return least;
  }

  /** Positions that the first stage, which leads, has processed. */
  get length(): number {
    return this.frontier(0);
  }

  /** Sets a unit's frontier after it processed positions up to `end`. */
  reach(unit: number, end: number): void {
    this.frontiers[unit] = end;
    this.written[unit] = Math.max(this.written[unit] ?? 0, end);
  }

  /** Rolls every unit back to at most `length` positions. */
  truncate(length: number): void {
    for (let unit = 0; unit < this.frontiers.length; unit++)
      this.frontiers[unit] = Math.min(this.frontier(unit), length);
  }
}
