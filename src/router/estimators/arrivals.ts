/**
 * Arrival rates: prompt positions and answer tokens per millisecond, and how long after its arrival a request is due. A
 * plan that spends all time there is leaves none for the next request.
 */
import type { Budget } from '../types.js';

/** Sums of arrivals. */
export interface ArrivalSums {
  readonly requests: number;
  readonly positions: number;
  readonly tokens: number;
}

/** Time constant of the exponential decay, ms: several requests at the rates that matter, short against a day's swings. */
const DECAY_MS = 6_000;

/** Immutable: admission tries arrivals that it may reject. */
export class Arrivals {
  private constructor(
    /** Arrivals with a deadline, and the sum of the logarithms of the times until they are due. */
    private readonly due: ArrivalSums,
    private readonly logDueMs: number,
    private readonly all: number,
    private readonly at: number,
  ) {}

  static readonly none = new Arrivals({ requests: 0, positions: 0, tokens: 0 }, 0, 0, -Infinity);

  /** With one more arrival at `now`. @param positions to prefill @param tokens that its answer is expected to have */
  with(now: number, positions: number, tokens: number, budget: Budget | null): Arrivals {
    const keep = this.#keep(now);
    const hasParts = budget !== null && (budget.ttftMs !== null || budget.tpotMs !== null);
    const partsMs = hasParts ? (budget.ttftMs ?? 0) + (budget.tpotMs ?? 0) * tokens : Infinity;
    const dueMs = Math.min(budget?.totalMs ?? Infinity, partsMs);
    const counts = dueMs === Infinity ? 0 : 1;
    const due = {
      requests: this.due.requests * keep + counts,
      positions: this.due.positions * keep + counts * positions,
      tokens: this.due.tokens * keep + counts * tokens,
    };
    const logDueMs = this.logDueMs * keep + (counts === 1 ? Math.log(Math.max(1, dueMs)) : 0);
    return new Arrivals(due, logDueMs, this.all * keep + 1, now);
  }

  /**
   * Arrivals that are expected to come and to be due within the next so many ms, as a function of these.
   * @param dueFraction share of their budget after which arrivals are due
   */
  dueWithin(now: number, dueFraction: number): (horizonMs: number) => ArrivalSums {
    const rate = this.#keep(now) / DECAY_MS;
    const { requests, positions, tokens } = this.due;
    const dueMs = dueFraction * Math.exp(this.logDueMs / Math.max(1e-9, requests));
    return (horizonMs) => {
      const open = rate * Math.max(0, horizonMs - dueMs);
      return { requests: requests * open, positions: positions * open, tokens: tokens * open };
    };
  }

  /** Arrivals per millisecond, whenever they are due. */
  perMs(now: number): number {
    return (this.all * this.#keep(now)) / DECAY_MS;
  }

  #keep(now: number): number {
    return this.at === -Infinity ? 0 : Math.exp(-Math.max(0, now - this.at) / DECAY_MS);
  }
}
