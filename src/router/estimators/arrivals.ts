/**
 * Arrival rates: prompt positions and answer tokens per millisecond, and how long after its arrival a request is due. A
 * plan that spends all time there is leaves none for the next request.
 */
import type { Budget } from '../types.js';

/** Sums of arrivals. */
export interface ArrivalSums {
  readonly requests: number;
  /** Prompt positions and answer tokens of the requests with a deadline. */
  readonly positions: number;
  readonly tokens: number;
}

/** Time constant of the exponential decay, ms: several requests at the rates that matter, short against a day's swings. */
const DECAY_MS = 6_000;
/** Least time over which arrivals count as a rate, and the pause after which they begin anew, ms. */
const LEAST_MS = 4_000;
const FORGET_MS = 3 * DECAY_MS;

interface Sums extends ArrivalSums {
  /** Requests with a deadline, and the sum of the logarithms of the times until they are due. */
  readonly due: number;
  readonly logDueMs: number;
}

/** Immutable: admission tries arrivals that it may reject. */
export class Arrivals {
  private constructor(
    private readonly sums: Sums,
    private readonly at: number,
    private readonly since: number,
  ) {}

  static readonly none = new Arrivals(
    { requests: 0, positions: 0, tokens: 0, due: 0, logDueMs: 0 },
    -Infinity,
    -Infinity,
  );

  /** With one more arrival at `now`. @param positions to prefill @param tokens that its answer is expected to have */
  with(now: number, positions: number, tokens: number, budget: Budget | null): Arrivals {
    const keep = this.#keep(now);
    const hasParts = budget !== null && (budget.ttftMs !== null || budget.tpotMs !== null);
    const partsMs = hasParts ? (budget.ttftMs ?? 0) + (budget.tpotMs ?? 0) * tokens : Infinity;
    const dueMs = Math.min(budget?.totalMs ?? Infinity, partsMs);
    const counts = dueMs === Infinity ? 0 : 1;
    const { sums } = this;
    const next = {
      requests: sums.requests * keep + 1,
      positions: sums.positions * keep + counts * positions,
      tokens: sums.tokens * keep + counts * tokens,
      due: sums.due * keep + counts,
      logDueMs: sums.logDueMs * keep + (counts === 1 ? Math.log(Math.max(1, dueMs)) : 0),
    };
    return new Arrivals(next, now, now - this.at > FORGET_MS ? now : this.since);
  }

  /** Arrivals that are expected within so many ms. */
  within(now: number, ms: number): ArrivalSums {
    // Since the first arrival the sums have only begun to fill.
    const full = 1 - Math.exp(-Math.max(LEAST_MS, now - this.since) / DECAY_MS);
    const times = (this.#keep(now) / DECAY_MS / full) * ms;
    const { requests, positions, tokens } = this.sums;
    return { requests: requests * times, positions: positions * times, tokens: tokens * times };
  }

  /** Arrivals that are expected to come and to be due within so many ms: a later deadline delays no earlier one. */
  dueWithin(now: number, ms: number): ArrivalSums {
    const { due, logDueMs, requests } = this.sums;
    const dueMs = Math.exp(logDueMs / Math.max(1e-9, due));
    const open = this.within(now, Math.max(0, ms - dueMs));
    return { ...open, requests: (open.requests * due) / Math.max(1e-9, requests) };
  }

  #keep(now: number): number {
    return this.at === -Infinity ? 0 : Math.exp(-Math.max(0, now - this.at) / DECAY_MS);
  }
}
