/** A bar on a terminal while the model loads. */
import type { SingleBar } from 'cli-progress';
import type { Engine } from '../engine-client/engine.js';
import { progressBar } from '../../util/progress-bar.js';

/** A shorter load shows no bar. */
const SHOWN_AFTER_MS = 1000;

export class LoadProgress {
  readonly #bar: SingleBar;
  #timer: NodeJS.Timeout | undefined;
  #isShown = false;
  #loaded = { done: 0, total: 1 };

  /** Removes the bar when the engine is ready. Listeners that log must come later, so that no line is lost under it. */
  constructor(engine: Engine, terminal: NodeJS.WritableStream) {
    this.#bar = progressBar('{what} {bar} {percentage}%', terminal);
    engine.on('loading', (done, total) => {
      this.#loaded = { done, total };
      if (!this.#isShown) return;
      this.#bar.setTotal(total);
      this.#bar.update(done, { what: this.#what() });
    });
    engine.on('ready', () => {
      this.stop();
    });
  }

  /** Shows the bar after a second. */
  start(): void {
    this.#timer = setTimeout(() => {
      this.#isShown = true;
      this.#bar.start(this.#loaded.total, this.#loaded.done, { what: this.#what() });
    }, SHOWN_AFTER_MS).unref();
  }

  stop(): void {
    clearTimeout(this.#timer);
    if (this.#isShown) this.#bar.stop();
    this.#isShown = false;
  }

  #what(): string {
    return this.#loaded.done < this.#loaded.total ? 'loading the model' : 'measuring steps, checking files';
  }
}
