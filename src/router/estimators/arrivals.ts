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

/** Immutable: admission tries arrivals that it may reject. */
export class Arrivals {
  private constructor(
    private readonly sums: ArrivalSums,
    private readonly at: number,
  ) {}

  static readonly none = new Arrivals({ requests: 0, positions: 0, tokens: 0 }, -Infinity);

  /** With one more arrival at `now`. @param positions to prefill @param tokens that its answer is expected to have */
  with(now: number, positions: number, tokens: number): Arrivals {
    const keep = this.#keep(now);
    const { sums } = this;
    const next = {
      requests: sums.requests * keep + 1,
      positions: sums.positions * keep + positions,
      tokens: sums.tokens * keep + tokens,
    };
    return new Arrivals(next, now);
  }

  /** Arrivals that are expected within so many ms. */
  within(now: number, ms: number): ArrivalSums {
    const times = (this.#keep(now) / DECAY_MS) * ms;
    const { requests, positions, tokens } = this.sums;
    return { requests: requests * times, positions: positions * times, tokens: tokens * times };
  }

  #keep(now: number): number {
    return this.at === -Infinity ? 0 : Math.exp(-Math.max(0, now - this.at) / DECAY_MS);
  }
}
