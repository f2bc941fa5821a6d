/**
 * Safety margin of promises: online quantile tracking. A miss adds a step to the margin, and a kept promise takes so
 * much off that it settles where the target share is kept, whatever makes answers late.
 *
 * Each tenant has its own margin. The others' raise it by one step at most: a slow machine makes all of them late.
 * A margin that rejects all requests has no outcome to fall by, so its excess decays without outcomes.
 */
import type { Policy } from './policy.js';

interface Margin {
  /** As of the last outcome. */
  readonly margin: number;
  /** Instant of the last outcome, ms. */
  readonly at: number;
}

/** Most tenants with a margin; the one with the oldest outcome is forgotten. */
const MOST_TENANTS = 1024;

export class SafetyMargins {
  /** Oldest outcome first. */
  readonly #own = new Map<string, Margin>();

  constructor(private readonly policy: Policy) {}

  /** Share by which a tenant's budget must exceed the planned time, at an instant. */
  at(tenant: string, now: number): number {
    const { initialMargin, marginStep } = this.policy;
    const own = this.#own.get(tenant);
    let others = 0;
    for (const [name, margin] of this.#own) if (name !== tenant) others = Math.max(others, this.#decayed(margin, now));
    const bounded = Math.min(others, initialMargin + marginStep);
    return own === undefined ? Math.max(initialMargin, bounded) : Math.max(this.#decayed(own, now), bounded);
  }

  /** Learns at an instant that a promise was kept or missed. */
  observe(tenant: string, isKept: boolean, now: number): void {
    const { initialMargin, keptShare, leastMargin, marginStep, mostMargin } = this.policy;
    const own = this.#own.get(tenant);
    const before = own === undefined ? initialMargin : this.#decayed(own, now);
    const next = before + (isKept ? (-marginStep * (1 - keptShare)) / keptShare : marginStep);
    this.#own.delete(tenant);
    this.#own.set(tenant, { margin: Math.min(mostMargin, Math.max(leastMargin, next)), at: now });
    const [oldest] = this.#own.keys();
    if (this.#own.size > MOST_TENANTS && oldest !== undefined) this.#own.delete(oldest);
  }

  #decayed({ margin, at }: Margin, now: number): number {
    const { initialMargin, marginHoldMs, marginHalfLifeMs } = this.policy;
    const idleMs = now - at - marginHoldMs;
    if (margin <= initialMargin || idleMs <= 0) return margin;
    return initialMargin + (margin - initialMargin) * 2 ** (-idleMs / marginHalfLifeMs);
  }
}
