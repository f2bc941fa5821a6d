/**
 * Adapts the number of tokens to draft: more while all are accepted, fewer when none is.
 *
 * Must not know: where drafts come from.
 */

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
