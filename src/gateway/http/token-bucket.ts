/**
 * A token bucket: it holds one minute's worth of units and refills continuously.
 *
 * Must not know: clocks (callers pass instants, ms), the meaning of a unit. This is our own code because common rate
 * limiters count one per request in fixed windows. Here a request takes as many tokens as it may use, and returns the
 * unused ones.
 */

const MINUTE_MS = 60_000;

export class TokenBucket {
  #level: number;
  #at: number;

  /** @param perMinute units per minute; at least 1 */
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

  /** Milliseconds until the bucket holds that many units. 0 if it does; Infinity for more than a minute's worth. */
  waitMs(units: number, now: number): number {
    if (units > this.perMinute) return Infinity;
    return (Math.max(0, units - this.level(now)) * MINUTE_MS) / this.perMinute;
  }

  /** Takes units. A level below 0 is a debt that refills first. */
  take(units: number, now: number): void {
    this.#level = this.level(now) - units;
  }

  /** Returns unused units. */
  give(units: number, now: number): void {
    this.#level = Math.min(this.perMinute, this.level(now) + units);
  }
}
