/**
 * Detects a process or thread that lives but is silent: stuck in a native call, stopped, or in an endless loop.
 *
 * The watchdog counts checks and not time: if this process itself was suspended, the suspension is one check.
 */

/** Unanswered checks after which the process counts as silent. A long step ends earlier. */
const CHECKS = 6;

export class Watchdog {
  #timer: NodeJS.Timeout | null = null;
  #unheard = 0;

  /**
   * @param ask makes the watched side reply
   * @param silent called once if the watched side does not reply
   * @param checks unanswered checks after which the next check calls `silent`
   */
  constructor(
    private readonly ask: () => void,
    private readonly silent: () => void,
    private readonly checks = CHECKS,
  ) {}

  /** Starts to watch; a running watch starts again. */
  start(silenceMs: number): void {
    this.stop();
    this.#timer = setInterval(() => {
      this.#check();
    }, silenceMs / this.checks);
    this.#timer.unref();
  }

  /** The watched side sent a message. */
  heard(): void {
    this.#unheard = 0;
  }

  stop(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
    this.#unheard = 0;
  }

  #check(): void {
    if (this.#unheard < this.checks) {
      this.#unheard++;
      this.ask();
      return;
    }
    this.stop();
    this.silent();
  }
}
