/**
 * Requests that arrived since the last step. A step takes tens of milliseconds, in which a whole burst may arrive: all
 * of it is admitted together, so the plan of the first request includes the others.
 *
 * Must not know: slots, costs.
 */
import type { Sequence } from './sequence.js';

export class Arrivals {
  /** Neither admitted nor rejected yet. */
  #waiting: Sequence[] = [];

  add(sequence: Sequence): void {
    this.#waiting.push(sequence);
  }

  get count(): number {
    return this.#waiting.length;
  }

  /** Requests that will take a place in the queue. */
  get countReal(): number {
    return this.#waiting.filter(({ isDryRun }) => !isDryRun).length;
  }

  find(id: string): Sequence | undefined {
    return this.#waiting.find((sequence) => sequence.id === id);
  }

  /**
   * Takes the requests to be decided together: all that arrived, then each dry run by itself, which changes no plan.
   */
  next(): readonly Sequence[] {
    const real = this.#waiting.filter(({ isDryRun }) => !isDryRun);
    const taken = real.length > 0 ? real : this.#waiting.slice(0, 1);
    this.#waiting = this.#waiting.filter((sequence) => !taken.includes(sequence));
    return taken;
  }
}
