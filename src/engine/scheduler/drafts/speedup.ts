/**
 * Estimates whether a source of drafts pays off: time of its tokens one by one, over their time with drafts.
 *
 * Must not know: where drafts come from.
 */

/** Prior without measurements: worth trying. */
const INITIAL_SPEEDUP = 1.2;
/** A source below this speed-up is skipped: measurements are rough, and drafts make step times uneven. */
const MIN_SPEEDUP = 1.05;
/** Weight of the latest round or step. */
const GAIN = 0.04;
/** Upper limit of one round's speed-up: a lucky round says little about the next. */
const MAX_SPEEDUP = 4;
/** A skipped source is tried once in this many rounds: texts and machines change. */
const RETRY_ROUNDS = 200;
/** One in this many rounds runs without a draft, so that the baseline stays known. */
const BASELINE_ROUNDS = 12;

/** Time of a lone sequence's step without a draft. */
export class BaselineStep {
  #ms = 0;
  #rounds = 0;

  /** Exponential mean in ms; 0: unknown. */
  get ms(): number {
    return this.#ms;
  }

  /** Whether the next round must run without a draft. Called once per round. */
  isDue(): boolean {
    this.#rounds = (this.#rounds + 1) % BASELINE_ROUNDS;
    return this.#ms === 0 || this.#rounds === 0;
  }

  observe(ms: number): void {
    this.#ms = this.#ms === 0 ? ms : this.#ms + (Math.min(ms, MAX_SPEEDUP * this.#ms) - this.#ms) * 4 * GAIN;
  }
}

export class Speedup {
  #ratio = INITIAL_SPEEDUP;
  #skipped = 0;

  /** Mean speed-up as far as measured. */
  get ratio(): number {
    return this.#ratio;
  }

  /** Whether the next round should use this source. Called once per round, because a skipped source is retried. */
  tryNow(): boolean {
    if (this.#ratio >= MIN_SPEEDUP) return true;
    this.#skipped = (this.#skipped + 1) % RETRY_ROUNDS;
    return this.#skipped === 0;
  }

  /** Learns from a round. @param plainMs estimated time of its tokens without drafts */
  observe(plainMs: number, tookMs: number): void {
    if (!(plainMs > 0) || !(tookMs > 0)) return;
    this.#ratio += (Math.min(MAX_SPEEDUP, plainMs / tookMs) - this.#ratio) * GAIN;
  }
}

const FIRST_TOKENS = 4;
const MIN_TOKENS = 2;
/** Each further position costs about a tenth of a step, accepted or not. */
const MAX_TOKENS = 8;

export class DraftLength {
  #tokens = FIRST_TOKENS;

  get tokens(): number {
    return this.#tokens;
  }

  observe(drafted: number, accepted: number): void {
    if (drafted === 0) return;
    if (accepted === drafted) this.#tokens = Math.min(MAX_TOKENS, 2 * this.#tokens);
    else if (accepted === 0) this.#tokens = Math.max(MIN_TOKENS, this.#tokens >> 1);
  }
}
