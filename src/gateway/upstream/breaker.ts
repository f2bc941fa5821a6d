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

interface Streak {
  /** Failures in a row. */
  readonly failures: number;
  /** Instants of the last failure, and of the next try. */
  readonly at: number;
  triesAt: number;
}

const none = (): Streak => ({ failures: 0, at: 0, triesAt: 0 });

const isOpen = ({ failures }: Streak): boolean => failures >= MOST_FAILURES;

const longer = ({ failures, triesAt }: Streak, at: number): Streak => ({
  failures: failures + 1,
  at,
  triesAt: failures + 1 === MOST_FAILURES ? at + PROBE_MS : triesAt,
});

export class Breaker {
  /** Connections that failed. */
  #all = none();
  /** Tenants whose last request failed, in the order of these failures. */
  readonly #tenants = new Map<string, Streak>();
  /** The tenant of the last try for all, and whether another one waits since. */
  #prober: string | null = null;
  #isOtherWaiting = false;
  #wasOpen = false;

  /** @param changed is called as it opens for a first tenant, and as it is closed for all */
  constructor(private readonly changed: (isOpen: boolean) => void = () => undefined) {}

  /** Whether a request that has a net asks the upstream. It takes the try that is due. @param now an instant, ms */
  admits(tenant: string, now: number): boolean {
    this.#forget(now);
    const own = this.#tenants.get(tenant) ?? none();
    if ((isOpen(own) && now < own.triesAt) || !this.#hasTurn(tenant, now)) return false;
    own.triesAt = now + PROBE_MS;
    return true;
  }

  /** Whether connections work, or this tenant tries one. A tenant leaves every other try to those that wait. */
  #hasTurn(tenant: string, now: number): boolean {
    if (!isOpen(this.#all)) return true;
    const isOther = tenant !== this.#prober;
    if (now < this.#all.triesAt + (isOther || !this.#isOtherWaiting ? 0 : PROBE_MS)) {
      this.#isOtherWaiting ||= isOther;
      return false;
    }
    this.#all.triesAt = now + PROBE_MS;
    [this.#prober, this.#isOtherWaiting] = [tenant, false];
    return true;
  }

  /** The upstream answered, with content or with the client's own fault. */
  succeeded(tenant: string): void {
    this.#all = none();
    this.#tenants.delete(tenant);
    this.#tell();
  }

  /** The request of this tenant got a 5xx, or lost its connection. @param now an instant, ms */
  failed(tenant: string, now: number): void {
    this.#all = none();
    const streak = longer(this.#tenants.get(tenant) ?? none(), now);
    this.#tenants.delete(tenant);
    this.#tenants.set(tenant, streak);
    this.#forget(now);
  }

  /** The upstream gave no connection. @param now an instant, ms */
  unreachable(now: number): void {
    this.#all = longer(this.#all, now);
    this.#tell();
  }

  #forget(now: number): void {
    for (const [tenant, { at }] of this.#tenants) {
      if (at > now - IDLE_MS && this.#tenants.size <= MOST_TENANTS) break;
      this.#tenants.delete(tenant);
    }
    this.#tell();
  }

  #tell(): void {
    const isAnyOpen = [this.#all, ...this.#tenants.values()].some(isOpen);
    if (isAnyOpen !== this.#wasOpen) this.changed(isAnyOpen);
    this.#wasOpen = isAnyOpen;
  }
}
