/**
 * The times of the first whole sentences of an upstream, by its last tries. They are a survival curve, since a try that
 * the gateway ended tells only that no sentence came so far. A failed try tells nothing: its net starts at the failure.
 *
 * Must not know: clocks, answers.
 */

/** Tries that count, and those of the prior, whose sentences come at once. */
const MOST_TRIES = 64;
const PRIOR_TRIES = 4;

interface Try {
  readonly ms: number;
  /** Whether a sentence came, or the try ended without one. */
  readonly isWhole: boolean;
}

export class SentenceTimes {
  readonly #tries: Try[] = [];

  /** @param ms from the request to the sentence, or to the end without one */
  observe(ms: number, isWhole: boolean): void {
    this.#tries.push({ ms, isWhole });
    if (this.#tries.length > MOST_TRIES) this.#tries.shift();
  }

  /** Probability that a sentence comes within a time, ms. It is 1 without tries. */
  chance(ms: number): number {
    const inOrder = [...this.#tries].sort((a, b) => a.ms - b.ms);
    let left = inOrder.length;
    let without = left / (left + PRIOR_TRIES);
    for (const each of inOrder) {
      if (each.ms > ms) break;
      if (each.isWhole) without *= 1 - 1 / left;
      left -= 1;
    }
    return 1 - without;
  }
}

/** The first sentence of one answer. Instants are on the monotonic clock. */
export class FirstSentence {
  #isKnown = false;

  constructor(
    private readonly times: SentenceTimes,
    private readonly askedAt: number,
  ) {}

  /** Probability that it comes by an instant. */
  chanceBy(at: number): number {
    return this.times.chance(at - this.askedAt);
  }

  /** The first call counts. @param isWhole whether it came, or the try ended without it */
  known(isWhole: boolean, now: number): void {
    if (!this.#isKnown) this.times.observe(now - this.askedAt, isWhole);
    this.#isKnown = true;
  }
}
