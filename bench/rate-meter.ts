/** From tokens' arrivals to rates. Knows: arrivals of one scenario. Must not know: sides. */
import { monotonicMs } from '../src/util/clock.js';
import type { Rate, Scenario } from './scenario.js';

/**
 * Prefill lasts until every sequence has its first token, decode from there until the first sequence ends: all the while
 * the whole batch decodes, as in llama-batched-bench. With several sequences, prefill includes the decode steps of those
 * that are ahead: what a server does.
 */
export class RateMeter {
  readonly #startedAt: number;
  #waiting: number;
  #decodesFrom = NaN;
  #decodesTo: number | null = null;
  #decoded = 0;

  constructor(
    private readonly scenario: Scenario,
    private readonly clock: () => number = monotonicMs,
  ) {
    this.#startedAt = clock();
    this.#waiting = scenario.parallel;
  }

  /** A token arrived. @param isFirst of its sequence */
  token(isFirst: boolean): void {
    if (isFirst && --this.#waiting === 0) this.#decodesFrom = this.clock();
    else if (!isFirst && this.#waiting === 0 && this.#decodesTo === null) this.#decoded++;
  }

  /** A sequence ended. */
  ended(): void {
    this.#decodesTo ??= this.clock();
  }

  /** NaN where nothing came, or where a sequence ended before another began. */
  rate(): Rate {
    const { parallel, promptTokens } = this.scenario;
    return {
      prefill: (1000 * parallel * promptTokens) / (this.#decodesFrom - this.#startedAt),
      decode: (1000 * this.#decoded) / ((this.#decodesTo ?? NaN) - this.#decodesFrom),
    };
  }
}
