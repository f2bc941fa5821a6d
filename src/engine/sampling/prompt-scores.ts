/**
 * Log-probabilities of a prompt's own tokens (echo), chunk by chunk as prefill produces their hidden states.
 *
 * Must not know: scheduling.
 */
import type { PrefillResult } from '../execution/run-prefill.js';
import { describe } from './sample-batch.js';
import type { Executor } from '../execution/executor.js';
import type { PromptEvent, TokenLogprobs } from '../protocol.js';
import type { Sequence } from '../sequence.js';

/** Scores the positions that a chunk has reached, and adds them to `events`. */
export function scorePrompt(
  executor: Executor,
  sequence: Sequence,
  output: PrefillResult['output'],
  events: PromptEvent[],
): void {
  const alternatives = sequence.request.promptLogprobs;
  if (alternatives === null || output === null) return;
  const { head, model } = executor;
  const scores: TokenLogprobs[] = [];
  // The logits of position p predict token p + 1.
  const start = Math.max(output.start, sequence.promptScored - 1);
  const end = Math.min(output.end, sequence.promptLength - 1);
  for (let first = start; first < end; first += model.limits.maxRows) {
    const rows = Math.min(model.limits.maxRows, end - first);
    head.inverseTemperatures.fill(1, 0, rows);
    sequence.tokens.slice(first + 1, first + 1 + rows).forEach((token, row) => (head.targets[row] = BigInt(token)));
    output.toHead(first, rows);
    head.choose(0, rows);
    for (let row = 0; row < rows; row++) {
      const selected = head.selected(row);
      scores.push(describe(selected, selected.target, alternatives));
    }
  }
  sequence.promptScored += scores.length;
  if (scores.length > 0) events.push({ id: sequence.id, logprobs: scores });
}
