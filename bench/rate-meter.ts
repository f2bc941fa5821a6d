/** Computes rates from the arrivals of tokens in one scenario. */
import { monotonicMs } from '../src/util/clock.js';
import type { Rate, Scenario } from './scenario.js';

/**
 * Prefill lasts until every sequence has its first token, and decode from there until the first sequence ends. The
 * whole batch decodes during that time, as in llama-batched-bench. With several sequences, as in a server, prefill
 * includes decode steps of sequences that have finished their prompt.
 */
export class RateMeter {
  readonly #startedAt: number;
  #waiting: number;
  #decodesFrom = NaN;
  #decodesTo: number | null = null;
  #decoded = 0;
  readonly #scenario: Scenario;
  readonly #clock: () => number;

  constructor(scenario: Scenario, clock: () => number = monotonicMs) {
    this.#scenario = scenario;
    this.#clock = clock;
    this.#startedAt = clock();
    this.#waiting = scenario.parallel;
  }

  /** Records the arrival of a token. @param isFirst whether it is the first token of its sequence */
  token(isFirst: boolean): void {
    if (isFirst && --this.#waiting === 0) this.#decodesFrom = this.#clock();
    else if (!isFirst && this.#waiting === 0 && this.#decodesTo === null) this.#decoded++;
  }

  /** Records the end of a sequence. */
  ended(): void {
    this.#decodesTo ??= this.#clock();
  }

  /** NaN if no token arrived, or if a sequence ended before another one began. */
  rate(): Rate {
    const { parallel, promptTokens } = this.#scenario;
    return {
      prefill: (1000 * parallel * promptTokens) / (this.#decodesFrom - this.#startedAt),
      decode: (1000 * this.#decoded) / ((this.#decodesTo ?? NaN) - this.#decodesFrom),
    };
  }
}
