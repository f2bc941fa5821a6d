/**
 * Whether a way of drafting pays here: how long its tokens would have taken one by one, over how long they took.
 *
 * Knows: times. Must not know: where drafts come from.
 */

/** Before anything was measured: worth trying. */
const INITIAL_SPEEDUP = 1.2;
/** A way that gains less than that is left: rounds are measured roughly, and drafts make steps uneven. */
const LEAST = 1.05;
/** Weight of the latest round or step. */
const GAIN = 0.04;
/** One round is as good as this at most: a lucky one says little of the next. */
const LIMIT = 4;
/** Of that many rounds that a way was left in, one tries it again: texts and machines change. */
const RETRY = 200;
/** Of that many rounds one is without a draft, so that what a step takes without stays known. */
const PLAIN = 12;

/** What a lone sequence's step takes without a draft. */
export class BaselineStep {
  #ms = 0;
  #rounds = 0;

  /** Mean milliseconds of late; 0: unknown. */
  get ms(): number {
    return this.#ms;
  }

  /** Whether the round that begins is to be without a draft, asked once a round. */
  isDue(): boolean {
    this.#rounds = (this.#rounds + 1) % PLAIN;
    return this.#ms === 0 || this.#rounds === 0;
  }

  observe(ms: number): void {
    this.#ms = this.#ms === 0 ? ms : this.#ms + (Math.min(ms, LIMIT * this.#ms) - this.#ms) * 4 * GAIN;
  }
}

export class Speedup {
  #ratio = INITIAL_SPEEDUP;
  #left = 0;

  /** Mean speed-up, as far as it is known. */
  get ratio(): number {
    return this.#ratio;
  }

  /** Whether to draft in this way now: asked once a round, since one that was left is tried again now and then. */
  tryNow(): boolean {
    if (this.#ratio >= LEAST) return true;
    this.#left = (this.#left + 1) % RETRY;
    return this.#left === 0;
  }

  /** Learns from a round. @param plainMs what its tokens would have taken without drafts */
  observe(plainMs: number, tookMs: number): void {
    if (!(plainMs > 0) || !(tookMs > 0)) return;
    this.#ratio += (Math.min(LIMIT, plainMs / tookMs) - this.#ratio) * GAIN;
  }
}
