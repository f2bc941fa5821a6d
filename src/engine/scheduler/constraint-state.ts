/** The grammar of an answer, as far as scheduling reads it. */
export interface ConstraintState {
  /** The tokens that may come next; null while the mask is pending, after release, and if no token may come. */
  readonly mask: Uint8Array | null;
  /** Another kind of answer began: any token may come, and the constraint has no further effect. */
  readonly released: boolean;
  /** The answer is complete: no token may come. */
  readonly complete: boolean;
  /** The failure of the constraint, or null. */
  readonly failed: ConstraintFailure | null;
}

export interface ConstraintFailure {
  /** For the log. */
  readonly message: string;
  /** This answer did not cause the failure: the same request may succeed. */
  readonly isLost: boolean;
}

/** Whether the next token has to wait for a mask. */
export function isPending({ mask, released, complete, failed }: ConstraintState): boolean {
  return mask === null && !released && !complete && failed === null;
}
