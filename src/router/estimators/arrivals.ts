/**
 * Arrival rates: prompt positions and answer tokens per millisecond. A plan that spends all time there is leaves none for
 * the next request.
 */

/** Sums of arrivals. */
export interface ArrivalSums {
  readonly requests: number;
  /** Prompt positions and answer tokens of the requests with a budget. */
  readonly positions: number;
  readonly tokens: number;
}

/** Time constant of the exponential decay, ms: several requests at the rates that matter, short against a day's swings. */
const DECAY_MS = 6_000;
/** Least time over which arrivals count as a rate, and the pause after which they begin anew, ms. */
const LEAST_MS = 4_000;
const FORGET_MS = 3 * DECAY_MS;

/** Immutable: admission tries arrivals that it may reject. */
export class Arrivals {
  private constructor(
    private readonly sums: ArrivalSums,
    private readonly at: number,
    private readonly since: number,
  ) {}

  static readonly none = new Arrivals({ requests: 0, positions: 0, tokens: 0 }, -Infinity, -Infinity);

  /** With one more arrival at `now`. @param positions to prefill @param tokens that its answer is expected to have */
  with(now: number, positions: number, tokens: number): Arrivals {
    const keep = this.#keep(now);
    const { sums } = this;
    const next = {
      requests: sums.requests * keep + 1,
      positions: sums.positions * keep + positions,
      tokens: sums.tokens * keep + tokens,
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

  #keep(now: number): number {
    return this.at === -Infinity ? 0 : Math.exp(-Math.max(0, now - this.at) / DECAY_MS);
  }
}
