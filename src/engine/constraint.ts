/** What bounds the next token of a sequence. Knows: token ids. Must not know: grammars, how masks are made. */

export interface Constraint {
  /** By token id: 1 may come next. Null while it is being found out. */
  readonly mask: Uint8Array | null;
  /** Nothing may come any more: the answer is complete. */
  readonly ends: boolean;
  /** Why it can't go on, or null. */
  readonly failed: string | null;
  /** Tells which token came. */
  accept(token: number): void;
  /** Nothing more is asked. */
  close(): void;
}

/** Whether the next token can't be chosen yet. */
export function isPending({ mask, ends, failed }: Constraint): boolean {
  return mask === null && !ends && failed === null;
}

/** Makes what may not come impossible. @param logits changed in place */
export function applyMask(logits: Float32Array, mask: Uint8Array): void {
  for (let id = 0; id < logits.length; id++) if (mask[id] !== 1) logits[id] = -Infinity;
}
