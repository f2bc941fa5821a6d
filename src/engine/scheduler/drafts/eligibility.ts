/**
 * Selects the answers that may be drafted and verified.
 *
 * Must not know: how drafts are made.
 *
 * Verification runs several positions in one pass. Attention over several positions rounds differently than over one
 * (ARCHITECTURE.md, "Depth, exactly"). The distribution is the same, but at a near-tie of two tokens a drafted answer
 * may differ. So answers that a client can reproduce are not drafted by default.
 */
import type { Speculate } from '../../../protocol/engine-options.js';
import type { SequenceRequest } from '../../../protocol/index.js';

/** The operator's `off` overrides the request; otherwise the request decides. */
export function maySpeculate(request: SequenceRequest, mode: Speculate): boolean {
  const { speculate, prediction, sampling, grammar } = request;
  // Grammar masks are computed for one token after another.
  if (mode === 'off' || speculate === false || (grammar ?? null) !== null) return false;
  if (mode === 'all' || speculate === true || (prediction ?? null) !== null) return true;
  return sampling.temperature > 0 && sampling.seed === null;
}
