/**
 * A breaker: an upstream that failed several times in a row counts as failed, and is tried once a second. A missing
 * connection concerns all tenants. Each request may cause its own 5xx, which concerns its tenant alone. Pure.
 */

/** Failures in a row that open it. */
const MOST_FAILURES = 5;
/** Time between two tries while it is open, ms. */
const PROBE_MS = 1000;
/** A tenant without another failure is forgotten behind this time, or behind as many other tenants. */
const IDLE_MS = 60_000;
const MOST_TENANTS = 1000;

/** Failures in a row. */
class Streak {
  #failures = 0;
  /** The next request behind this instant tries the upstream. */
  probeAt = 0;

  /** @param at the instant of the last failure */
  constructor(public at = 0) {}

  get isOpen(): boolean {
    return this.#failures >= MOST_FAILURES;
  }

  /** Whether requests wait at this instant. */
  waits(now: number): boolean {
    return this.isOpen && now < this.probeAt;
  }

  add(now: number): void {
    this.at = now;
    this.#failures += 1;
    if (this.#failures === MOST_FAILURES) this.probeAt = now + PROBE_MS;
  }

  clear(): void {
    this.#failures = 0;
  }
}

export class Breaker {
  /** Connections that failed. */
  readonly #all = new Streak();
  /** Tenants whose last request failed, in the order of these failures. */
  readonly #tenants = new Map<string, Streak>();
  /** Those whose streak is open. */
  readonly #open = new Set<string>();
  /** The tenant of the last try for all, and whether another one waits since. */
  #prober: string | null = null;
  #isOtherWaiting = false;
  #wasOpen = false;

  /** @param changed is called as it opens for a first tenant, and as it is closed for all */
  constructor(private readonly changed: (isOpen: boolean) => void = () => undefined) {}

  /** Whether a request that has a net asks the upstream. It takes the try that is due. @param now an instant, ms */
  admits(tenant: string, now: number): boolean {
    this.#forget(now);
    const own = this.#tenants.get(tenant);
    if (own?.waits(now) === true || !this.#hasTurn(tenant, now)) return false;
    if (own !== undefined) own.probeAt = now + PROBE_MS;
    return true;
  }

  /** Whether connections work, or this tenant tries one. A tenant leaves every other try to those that wait. */
  #hasTurn(tenant: string, now: number): boolean {
    const all = this.#all;
    if (!all.isOpen) return true;
    const isOther = tenant !== this.#prober;
    if (all.waits(isOther || !this.#isOtherWaiting ? now : now - PROBE_MS)) {
      this.#isOtherWaiting ||= isOther;
      return false;
    }
    all.probeAt = now + PROBE_MS;
    this.#prober = tenant;
    this.#isOtherWaiting = false;
    return true;
  }

  /** The upstream answered, with content or with the client's own fault. */
  succeeded(tenant: string): void {
    this.#all.clear();
    this.#drop(tenant);
    this.#tell();
  }

  /** The request of this tenant got a 5xx, or lost its connection. @param now an instant, ms */
  failed(tenant: string, now: number): void {
    this.#all.clear();
    const streak = this.#tenants.get(tenant) ?? new Streak();
    streak.add(now);
    this.#tenants.delete(tenant);
    this.#tenants.set(tenant, streak);
    if (streak.isOpen) this.#open.add(tenant);
    this.#forget(now);
  }

  /** The upstream gave no connection. @param now an instant, ms */
  unreachable(now: number): void {
    this.#all.add(now);
    this.#tell();
  }

  #forget(now: number): void {
    for (const [tenant, { at }] of this.#tenants) {
      if (at > now - IDLE_MS && this.#tenants.size <= MOST_TENANTS) break;
      this.#drop(tenant);
    }
    this.#tell();
  }

  #drop(tenant: string): void {
    this.#tenants.delete(tenant);
    this.#open.delete(tenant);
  }

  #tell(): void {
    const isOpen = this.#all.isOpen || this.#open.size > 0;
    if (isOpen !== this.#wasOpen) this.changed(isOpen);
    this.#wasOpen = isOpen;
  }
}
