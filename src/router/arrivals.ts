/**
 * Arrivals that are to be expected: their rate, their prompts and their budgets. A plan that spends all time on the
 * requests that are present leaves none for the next one.
 */

/** Time constant of the exponential decay, ms: several requests at the rates that matter, short against a day's swings. */
const DECAY_MS = 6_000;
/** Least time over which arrivals count as a rate, and the pause after which they begin anew, ms. */
const LEAST_MS = 2_000;
const FORGET_MS = 3 * DECAY_MS;
/** Budgets that are remembered. */
const BUDGETS = 16;

/** The requests that are to be expected. */
export interface Expected {
  /** Requests with a total budget per millisecond. */
  readonly rate: number;
  /** Positions of a prompt to prefill. */
  readonly positions: number;
  /** Total budgets of the last requests, ms. */
  readonly budgets: readonly number[];
}

/** Immutable: a plan keeps the estimate that it was made with. */
export class Arrivals {
  private constructor(
    private readonly requests: number,
    private readonly positions: number,
    private readonly budgets: readonly number[],
    private readonly at: number,
    private readonly since: number,
  ) {}

  static readonly none = new Arrivals(0, 0, [], -Infinity, -Infinity);

  /** With one more request. @param positions of its prompt to prefill */
  with(now: number, positions: number, budgetMs: number): Arrivals {
    const keep = this.#keep(now);
    const since = now - this.at > FORGET_MS ? now : this.since;
    const budgets = [...this.budgets.slice(1 - BUDGETS), budgetMs];
    return new Arrivals(this.requests * keep + 1, this.positions * keep + positions, budgets, now, since);
  }

  expected(now: number): Expected {
    const { requests, positions, budgets } = this;
    if (requests === 0) return { rate: 0, positions: 0, budgets };
    // Since the first arrival the sums have only begun to fill.
    const full = 1 - Math.exp(-Math.max(LEAST_MS, now - this.since) / DECAY_MS);
    return { rate: (requests * this.#keep(now)) / DECAY_MS / full, positions: positions / requests, budgets };
  }

  #keep(now: number): number {
    return this.at === -Infinity ? 0 : Math.exp(-Math.max(0, now - this.at) / DECAY_MS);
  }
}
