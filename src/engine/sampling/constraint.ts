/** What bounds the next token of a sequence. Knows: token ids. Must not know: grammars, how masks are made. */

export interface Constraint {
  /** By token id: 1 may come next. Null while it is being found out, or once anything may come. */
  readonly mask: Uint8Array | null;
  /** Whether the mask must be kept to. Until then it only tells what the answer becomes by what comes. */
  readonly enforced: boolean;
  /** Another kind of answer came: from now on anything may, and nothing more is asked. */
  readonly released: boolean;
  /** Nothing may come any more: the answer is complete. */
  readonly complete: boolean;
  /** Why it can't go on, or null. */
  readonly failed: ConstraintFailure | null;
  /** Tells which token came. */
  accept(token: number): void;
  /** Nothing more is asked. */
  close(): void;
}

export interface ConstraintFailure {
  /** For the log. */
  readonly message: string;
  /** It was not the answer's fault: the same request may well succeed. */
  readonly isLost: boolean;
}

/** Whether the next token can't be chosen yet. */
export function isPending({ mask, released, complete, failed }: Constraint): boolean {
  return mask === null && !released && !complete && failed === null;
}

/** Makes what may not come impossible. @param logits changed in place */
export function applyMask(logits: Float32Array, mask: Uint8Array): void {
  for (let id = 0; id < logits.length; id++) if (mask[id] !== 1) logits[id] = -Infinity;
}
