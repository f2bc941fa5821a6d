/**
 * Means of a looped model's gate over the audited answers of all clients: by exit, the probability that this loop or an
 * earlier one stops.
 *
 * Pure. Must not know: audits, requests.
 */

/** Answers over which a mean fades. */
const MEMORY_ANSWERS = 1000;

export class GateMeans {
  #answers = 0;
  #means: readonly number[] = [];

  /** @param gate of one answer, by exit */
  observe(gate: readonly number[]): void {
    this.#answers = Math.min(this.#answers + 1, MEMORY_ANSWERS);
    this.#means = gate.map((value, exit) => {
      const before = this.#means[exit] ?? value;
      return before + (value - before) / this.#answers;
    });
  }

  /** The mean of an exit by its index; null without an answer. */
  of(exit: number): number | null {
    return this.#means[exit] ?? null;
  }
}
