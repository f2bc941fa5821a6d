/**
 * What a slot of the KV cache holds: tokens, and for each unit the frontier (positions it has processed).
 *
 * Knows: the bookkeeping and its invariants. Must not know: memory (SlotTable moves it), requests.
 *
 * Invariants: deeper trunk stages never lead shallower ones; boundary b keeps the states of [frontier of its next
 * stage, frontier of the stage before), or of all positions where an exit block reads it.
 */
export class Slot {
  /** Tokens whose positions some unit may have processed; the sequence's own array while it is live. */
  tokens: number[] = [];
  readonly frontiers: Int32Array;
  /** A live sequence owns it; without an owner it is a reusable prefix, or empty. */
  live = false;
  /** Step of its last use, for evicting the least recently used prefix. */
  lastUsed = 0;
  /** Most positions written since its memory was given back. */
  touched = 0;

  /** @param index where it lies in the KV buffers; changes when slots are swapped */
  constructor(
    public index: number,
    units: number,
  ) {
    this.frontiers = new Int32Array(units);
  }

  frontier(unit: number): number {
    return this.frontiers[unit] ?? 0;
  }

  /** Least frontier among units: how far all of them have come. */
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
    this.touched = Math.max(this.touched, end);
  }

  /** Rolls every unit back to at most `length` positions. */
  truncate(length: number): void {
    for (let unit = 0; unit < this.frontiers.length; unit++)
      this.frontiers[unit] = Math.min(this.frontier(unit), length);
  }
}
