/**
 * The grammar constraint of one answer, as the grammar thread reports it.
 *
 * Must not know: threads, the grammar library, logits.
 */
import type { Constraint, ConstraintFailure } from '../constraint.js';
import type { Grammar } from '../../protocol/index.js';
import type { ToGrammars } from './messages.js';

export interface GrammarSessionSpec {
  readonly id: string;
  readonly grammar: Grammar;
  /** End tokens that this request allows. */
  readonly ownEnds: readonly number[];
  readonly allEnds: readonly number[];
}

export class GrammarSession implements Constraint {
  mask: Uint8Array | null = null;
  enforced = false;
  released = false;
  complete = false;
  failed: ConstraintFailure | null = null;
  /** All accepted tokens, for another thread to continue from. */
  readonly #tokens: number[] = [];
  /** Masks that the thread still has to send; more than one only after another thread took over. */
  #pending = 0;

  constructor(
    private readonly spec: GrammarSessionSpec,
    private readonly send: (message: ToGrammars) => void,
    private readonly closed: () => void,
  ) {}

  /** Opens the session on a new thread and requests the current mask. @throws the error of `send` */
  open(): void {
    const { id, grammar } = this.spec;
    this.#pending = 1;
    this.send({ type: 'open', id, grammar, tokens: [...this.#tokens] });
  }

  /** @param mask from the library, which knows only the first end token; null if no token may come */
  next(mask: Uint8Array | null, enforced: boolean): void {
    this.#pending--;
    // A token was accepted while a thread took over: this mask is the one before it.
    if (this.#pending > 0) return;
    const { ownEnds, allEnds } = this.spec;
    this.enforced = enforced;
    if (mask !== null) {
      const mayEnd = mask[allEnds[0] ?? -1] === 1;
      for (const id of allEnds) mask[id] = mayEnd && ownEnds.includes(id) ? 1 : 0;
    }
    this.complete = mask?.includes(1) !== true;
    this.mask = mask;
  }

  accept(token: number): void {
    if (this.released) return;
    if (!this.enforced && this.mask?.[token] !== 1) {
      this.released = true;
      this.mask = null;
      this.close();
      return;
    }
    this.mask = null;
    this.#tokens.push(token);
    this.#pending++;
    this.send({ type: 'accept', id: this.spec.id, token });
  }

  close(): void {
    this.send({ type: 'close', id: this.spec.id });
    this.closed();
  }
}
