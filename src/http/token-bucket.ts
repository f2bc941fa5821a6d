/**
 * A token bucket: so many units a minute, a minute's worth at once, filled all the time.
 *
 * Knows: arithmetic. Must not know: clocks (instants are handed in, ms), what a unit is.
 * Of our own because the rate limiters at hand count one per request in fixed windows; here a request costs as many
 * tokens as it may use, and what it did not use comes back.
 */

const MINUTE_MS = 60_000;

export class TokenBucket {
  #level: number;
  #at: number;

  /** @param perMinute units; at least 1 */
  constructor(
    readonly perMinute: number,
    now: number,
  ) {
    this.#level = perMinute;
    this.#at = now;
  }

  level(now: number): number {
    const gained = (Math.max(0, now - this.#at) * this.perMinute) / MINUTE_MS;
    this.#level = Math.min(this.perMinute, this.#level + gained);
    this.#at = Math.max(this.#at, now);
    return this.#level;
  }

  /** Milliseconds until so many units are there: 0 where they are; Infinity for more than a minute's worth. */
  waitMs(units: number, now: number): number {
    if (units > this.perMinute) return Infinity;
    return (Math.max(0, units - this.level(now)) * MINUTE_MS) / this.perMinute;
  }

  /** Takes units; a level below 0 is a debt that is filled first. */
  take(units: number, now: number): void {
    this.#level = this.level(now) - units;
  }

  /** Gives back what was taken too much. */
  give(units: number, now: number): void {
    this.#level = Math.min(this.perMinute, this.level(now) + units);
  }
}
