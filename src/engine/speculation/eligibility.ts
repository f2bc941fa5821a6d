/**
 * Whose answers may be drafted and verified.
 *
 * Knows: requests and the operator's word. Must not know: how drafts are made.
 *
 * Verification runs several positions at once, and attention over several rounds otherwise than over one
 * (ARCHITECTURE.md, "Depth, exactly"): the distribution is the same, but where two tokens are nearly tied, an answer
 * that was drafted in parts may go the other way. Who asks for the same answer twice is not to notice.
 */
import type { Speculate } from '../client/options.js';
import type { GenerateMessage } from '../protocol.js';

/** The operator's `off` is the last word; then the request's own. */
export function maySpeculate(request: GenerateMessage, mode: Speculate): boolean {
  const { speculate, prediction, sampling, grammar } = request;
  // A mask is made for one token after another.
  if (mode === 'off' || speculate === false || (grammar ?? null) !== null) return false;
  if (mode === 'all' || speculate === true || (prediction ?? null) !== null) return true;
  return sampling.temperature > 0 && sampling.seed === null;
}
