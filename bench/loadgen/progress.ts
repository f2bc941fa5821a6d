/** Progress of a run on a terminal. */
import type { SingleBar } from 'cli-progress';
import { progressBar } from '../../src/util/progress-bar.js';

export class RunProgress {
  readonly #bar: SingleBar | null;
  readonly #counts = { sent: 0, met: 0, failed: 0 };
  #done = 0;

  /** @param terminal shows the bar; null shows none */
  constructor(what: string, total: number, terminal: NodeJS.WritableStream | null) {
    const format = '{what} {bar} {value}/{total} answered, {sent} sent, {met} in budget, {failed} failed';
    this.#bar = terminal === null ? null : progressBar(format, terminal);
    this.#bar?.start(total, 0, { what, ...this.#counts });
  }

  sent(): void {
    this.#counts.sent++;
    this.#update();
  }

  answered({ isMet, isFailed }: { readonly isMet: boolean; readonly isFailed: boolean }): void {
    this.#done++;
    if (isMet) this.#counts.met++;
    if (isFailed) this.#counts.failed++;
    this.#update();
  }

  /** Removes the bar. */
  stop(): void {
    this.#bar?.stop();
  }

  #update(): void {
    this.#bar?.update(this.#done, this.#counts);
  }
}
