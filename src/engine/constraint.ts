/** Limits the next token of a sequence. Knows: token ids. Must not know: grammars, how masks are made. */
import type { ConstraintState } from './scheduler/constraint-state.js';

export { type ConstraintFailure, isPending } from './scheduler/constraint-state.js';

export interface Constraint extends ConstraintState {
  /** Whether the mask is binding. Before, any token may come, and the token decides the kind of answer. */
  readonly enforced: boolean;
  /** Whether the next token belongs to the answer's thoughts, or closes them; absent: no. */
  readonly isThinking?: boolean;
  /** Closes the thoughts with the next token; absent where an answer has none. */
  endThoughts?(): void;
  /** Reports the next token. */
  accept(token: number): void;
  /** Frees the constraint's resources. */
  close(): void;
}

/** Sets the logits of excluded tokens to -Infinity, in place. */
export function applyMask(logits: Float32Array, mask: Uint8Array): void {
  for (let id = 0; id < logits.length; id++) if (mask[id] !== 1) logits[id] = -Infinity;
}
