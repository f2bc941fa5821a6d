/**
 * How many tokens to draft: more while all are accepted, fewer when none is.
 *
 * Knows: counts. Must not know: where drafts come from.
 */

const FIRST = 4;
const LEAST = 2;
/** A position more costs about a tenth of a step, accepted or not. */
const MOST = 8;

export class DraftLength {
  #tokens = FIRST;

  get tokens(): number {
    return this.#tokens;
  }

  observe(drafted: number, accepted: number): void {
    if (drafted === 0) return;
    if (accepted === drafted) this.#tokens = Math.min(MOST, 2 * this.#tokens);
    else if (accepted === 0) this.#tokens = Math.max(LEAST, this.#tokens >> 1);
  }
}
