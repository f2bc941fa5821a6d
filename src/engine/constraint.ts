/** Limits the next token of a sequence. Knows: token ids. Must not know: grammars, how masks are made. */

export interface Constraint {
  /** By token id: 1 for a token that may come next. Null while the mask is pending, after release, and if no token may come. */
  readonly mask: Uint8Array | null;
  /** Whether the mask is binding. Before, any token may come, and the token decides the kind of answer. */
  readonly enforced: boolean;
  /** Another kind of answer began: any token may come, and the constraint has no further effect. */
  readonly released: boolean;
  /** The answer is complete: no token may come. */
  readonly complete: boolean;
  /** Whether the next token belongs to the answer's thoughts, or closes them; absent: no. */
  readonly isThinking?: boolean;
  /** The failure of the constraint, or null. */
  readonly failed: ConstraintFailure | null;
  /** Closes the thoughts with the next token; absent where an answer has none. */
  endThoughts?(): void;
  /** Reports the next token. */
  accept(token: number): void;
  /** Frees the constraint's resources. */
  close(): void;
}

export interface ConstraintFailure {
  /** For the log. */
  readonly message: string;
  /** This answer did not cause the failure: the same request may succeed. */
  readonly isLost: boolean;
}

/** Whether the next token has to wait for a mask. */
export function isPending({ mask, released, complete, failed }: Constraint): boolean {
  return mask === null && !released && !complete && failed === null;
}

/** Sets the logits of excluded tokens to -Infinity, in place. */
export function applyMask(logits: Float32Array, mask: Uint8Array): void {
  for (let id = 0; id < logits.length; id++) if (mask[id] !== 1) logits[id] = -Infinity;
}
