/**
 * The pace of refusals by tenant. The first ones leave at once. A client that asks again without a pause gets the
 * further ones at a fixed rate, so that its rejections take a bounded part of the machine. An answer is never held.
 *
 * The longest hold is the `Retry-After` of a refusal: a client that respects it is never slower for it. Must not know:
 * clocks (callers pass instants, ms).
 */
import { ERRORS } from '../errors.js';

/** Refusals of a tenant a second that leave at once. One takes up to 5 ms of a core, and the engine uses all cores. */
const PER_SECOND = 5;
/** Refusals that a tenant gets at once after a pause: those of two batches that arrive together. */
const AT_ONCE = 32;
const EVERY_MS = 1000 / PER_SECOND;
const MOST_MS = ERRORS.budget_infeasible.retryAfterS * 1000;
/** Tenants with a pace. Beyond them the gateway forgets each tenant that has paused. */
const MOST_TENANTS = 1024;

export class RefusalPace {
  /** By tenant: the instant from which on its next refusal leaves at once, at an even pace. */
  readonly #due = new Map<string, number>();

  /** Counts a refusal. @returns milliseconds that it is held, at most a second */
  holdMs(tenant: string, now: number): number {
    const due = Math.max(this.#due.get(tenant) ?? -Infinity, now - AT_ONCE * EVERY_MS) + EVERY_MS;
    const holdMs = Math.min(MOST_MS, Math.max(0, due - now));
    this.#due.set(tenant, Math.min(due, now + MOST_MS));
    if (this.#due.size > MOST_TENANTS) for (const [each, at] of this.#due) if (at <= now) this.#due.delete(each);
    return holdMs;
  }
}
