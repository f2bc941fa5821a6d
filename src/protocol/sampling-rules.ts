/** Rules of sampling that several parts go by. Must not know: logits. */
import type { Sampling } from './request.js';

/** Whether a request changes single logits, so that the largest unchanged logits cannot decide. */
export function changesLogits(sampling: Sampling): boolean {
  return (
    sampling.presencePenalty !== 0 ||
    sampling.frequencyPenalty !== 0 ||
    sampling.repetitionPenalty !== 1 ||
    sampling.logitBias.length > 0
  );
}
