/** A breaker: an upstream that failed several times in a row counts as failed, and is tried once a second. Pure. */

/** Failures in a row that open it. */
const MOST_FAILURES = 5;
/** Time between two tries while it is open, ms. */
const PROBE_MS = 1000;

export class Breaker {
  #failures = 0;
  /** While it is open: the next request behind this instant tries the upstream. */
  #probeAt = 0;

  /** @param changed is called as it opens and as it closes */
  constructor(private readonly changed: (isOpen: boolean) => void = () => undefined) {}

  get isOpen(): boolean {
    return this.#failures >= MOST_FAILURES;
  }

  /** Whether a request that has a net asks the upstream. It takes the try that is due. @param now an instant, ms */
  admits(now: number): boolean {
    if (!this.isOpen) return true;
    if (now < this.#probeAt) return false;
    this.#probeAt = now + PROBE_MS;
    return true;
  }

  /** The upstream answered, with content or with the client's own fault. */
  succeeded(): void {
    const wasOpen = this.isOpen;
    this.#failures = 0;
    if (wasOpen) this.changed(false);
  }

  /** It gave no connection, or a 5xx. @param now an instant, ms */
  failed(now: number): void {
    this.#failures += 1;
    if (this.#failures !== MOST_FAILURES) return;
    this.#probeAt = now + PROBE_MS;
    this.changed(true);
  }
}
