/** Constraints for tests, without a grammar. */
import type { Constraint } from '../../src/engine/constraint.js';

/** @param mask 1 for each allowed token id; null: the mask is still to come */
export function constraintOf(mask: Uint8Array | null): Constraint {
  return {
    mask,
    enforced: true,
    released: false,
    complete: false,
    failed: null,
    accept: () => undefined,
    close: () => undefined,
  };
}
