/**
 * Notices an engine process that lives and says nothing any more: stuck in a native call, stopped, or in an endless loop.
 *
 * Knows: time without a word. Must not know: processes, what is said.
 *
 * Counted in looks, not by the clock: where this process itself was suspended, that is one look, however long it took.
 */

/** Looks after which silence is no step that takes long. */
const LOOKS = 6;
export class Watchdog {
  #timer: NodeJS.Timeout | null = null;
  #unheard = 0;

  /**
   * @param ask makes the engine say something
   * @param silent called once when it says nothing
   * @param looks after which the next one finds it silent
   */
  constructor(
    private readonly ask: () => void,
    private readonly silent: () => void,
    private readonly looks = LOOKS,
  ) {}

  /** Begins to watch, anew where it does already. */
  start(silenceMs: number): void {
    this.stop();
    this.#timer = setInterval(() => {
      this.#look();
    }, silenceMs / this.looks);
    this.#timer.unref();
  }

  /** The engine said something. */
  heard(): void {
    this.#unheard = 0;
  }

  stop(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
    this.#unheard = 0;
  }

  #look(): void {
    if (this.#unheard < this.looks) {
      this.#unheard += 1;
      this.ask();
      return;
    }
    this.stop();
    this.silent();
  }
}
