/**
 * What bounds one answer, as the thread of grammars tells it.
 *
 * Knows: masks, end tokens, what it said to the thread. Must not know: threads, the grammar library, logits.
 */
import type { Constraint, ConstraintFailure } from '../sampling/constraint.js';
import type { Grammar } from '../protocol.js';
import type { ToGrammars } from './messages.js';

export interface GrammarSessionSpec {
  readonly id: string;
  readonly grammar: Grammar;
  /** End tokens that this request may choose. */
  readonly ownEnds: readonly number[];
  readonly allEnds: readonly number[];
}

export class GrammarSession implements Constraint {
  mask: Uint8Array | null = null;
  enforced = false;
  released = false;
  complete = false;
  failed: ConstraintFailure | null = null;
  /** All that came, for another thread to go on from. */
  readonly #tokens: number[] = [];
  /** Masks that the thread owes: more than one only where another thread took over. */
  #pending = 0;

  constructor(
    private readonly spec: GrammarSessionSpec,
    private readonly send: (message: ToGrammars) => void,
    private readonly closed: () => void,
  ) {}

  /** Asks a thread that knows nothing of it for the mask that it is at. @throws what sending does */
  open(): void {
    const { id, grammar } = this.spec;
    this.#pending = 1;
    this.send({ type: 'open', id, grammar, tokens: [...this.#tokens] });
  }

  /** @param mask of the library: it knows one end token, the first. Null where nothing may come */
  next(mask: Uint8Array | null, enforced: boolean): void {
    this.#pending--;
    // A token came while a thread took over: this is the mask before it.
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
