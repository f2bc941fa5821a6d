/** Rules of sampling that several parts go by, and the greedy one. Must not know: logits. */
import type { Sampling } from './request.js';

/** Always samples the most likely token. */
export const GREEDY: Sampling = {
  temperature: 0,
  topP: 1,
  topK: 0,
  minP: 0,
  seed: null,
  presencePenalty: 0,
  frequencyPenalty: 0,
  repetitionPenalty: 1,
  logitBias: [],
};

/** Whether a request changes single logits, so that the largest unchanged logits cannot decide. */
export function changesLogits(sampling: Sampling): boolean {
  return (
    sampling.presencePenalty !== 0 ||
    sampling.frequencyPenalty !== 0 ||
    sampling.repetitionPenalty !== 1 ||
    sampling.logitBias.length > 0
  );
}
