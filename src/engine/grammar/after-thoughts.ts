/**
 * A constraint that holds behind thoughts. Thoughts are free text of a bounded length; the constraint sees neither them
 * nor their tags.
 *
 * Must not know: grammars, logits.
 */
import type { ThoughtTokens } from '../../protocol/index.js';
import type { Constraint, ConstraintFailure } from '../constraint.js';

type Phase = 'start' | 'thoughts' | 'gap' | 'answer';

/** The mask of free text, which is not enforced. */
const FREE = new Uint8Array(0);

/** The constraint of any text. */
export const FREE_TEXT: Constraint = {
  mask: null,
  enforced: false,
  released: true,
  complete: false,
  failed: null,
  accept: () => undefined,
  close: () => undefined,
};

export class AfterThoughts implements Constraint {
  #phase: Phase;
  /** The last mask of the constraint, and the same with the tokens that lead to it. */
  #widened: readonly [own: Uint8Array, wide: Uint8Array] | null = null;
  /** Tokens that the thoughts have left. */
  #left: number;
  readonly #inner: Constraint;
  readonly #thoughts: ThoughtTokens;

  /** @param inner has its first mask */
  constructor(inner: Constraint, thoughts: ThoughtTokens) {
    this.#inner = inner;
    this.#thoughts = thoughts;
    this.#phase = thoughts.isOpen ? 'thoughts' : 'start';
    this.#left = thoughts.most ?? Infinity;
  }

  get mask(): Uint8Array | null {
    if (this.#phase === 'thoughts') return this.#left > 0 ? FREE : this.#onlyClose();
    const { mask } = this.#inner;
    return mask === null || this.#phase === 'answer' ? mask : this.#wide(mask);
  }

  get enforced(): boolean {
    return this.#phase === 'thoughts' ? this.#left <= 0 : this.#inner.enforced;
  }

  get released(): boolean {
    return this.#phase !== 'thoughts' && this.#inner.released;
  }

  get complete(): boolean {
    return this.#phase !== 'thoughts' && this.#inner.complete;
  }

  get isThinking(): boolean {
    return this.#phase === 'thoughts';
  }

  get failed(): ConstraintFailure | null {
    return this.#inner.failed;
  }

  accept(token: number): void {
    const { open, close } = this.#thoughts;
    if (this.#phase === 'thoughts') {
      this.#left--;
      if (token !== close) return;
      this.#phase = 'gap';
      // Other tokens lead on from here, and the mask may still be the one of the start.
      this.#widened = null;
    } else if (this.#phase === 'start' && token === open) this.#phase = 'thoughts';
    else if (this.#phase !== 'gap' || !this.#extra().includes(token)) {
      this.#phase = 'answer';
      this.#inner.accept(token);
    }
  }

  endThoughts(): void {
    this.#left = 0;
  }

  close(): void {
    this.#inner.close();
  }

  #onlyClose(): Uint8Array {
    const mask = new Uint8Array(this.#thoughts.close + 1);
    mask[this.#thoughts.close] = 1;
    return mask;
  }

  /** Tokens that may come beside those of the constraint. */
  #extra(): readonly number[] {
    return this.#phase === 'start' ? [this.#thoughts.open] : this.#thoughts.blanks;
  }

  #wide(own: Uint8Array): Uint8Array {
    if (this.#widened?.[0] === own) return this.#widened[1];
    const wide = own.slice();
    for (const id of this.#extra()) wide[id] = 1;
    this.#widened = [own, wide];
    return wide;
  }
}
