/**
 * Log-probabilities of a prompt's own tokens (echo), chunk by chunk as prefill produces their hidden states.
 *
 * Must not know: scheduling.
 */
import type { Head, States } from '../model/head.js';
import type { PromptEvent, TokenLogprobs } from '../../protocol/index.js';
import type { Answer } from '../answer.js';
import { describe } from './sample-batch.js';

/**
 * Scores the positions that a chunk has reached, and adds them to `events`.
 * @param states those of the chunk
 * @param maxRows most rows of the head
 */
export function scorePrompt(head: Head, maxRows: number, answer: Answer, states: States, events: PromptEvent[]): void {
  const alternatives = answer.request.promptLogprobs;
  if (alternatives === null) return;
  const scores: TokenLogprobs[] = [];
  // The logits of position p predict token p + 1.
  const start = Math.max(states.start, answer.promptScored - 1);
  const end = Math.min(states.end, answer.promptLength - 1);
  for (let first = start; first < end; first += maxRows) {
    const rows = Math.min(maxRows, end - first);
    head.inverseTemperatures.fill(1, 0, rows);
    answer.tokens.slice(first + 1, first + 1 + rows).forEach((token, row) => (head.targets[row] = BigInt(token)));
    states.toHead(first, rows);
    head.choose(0, rows);
    for (let row = 0; row < rows; row++) {
      const selected = head.selected(row);
      scores.push(describe(selected, selected.target, alternatives));
    }
  }
  answer.promptScored += scores.length;
  if (scores.length > 0) events.push({ id: answer.id, logprobs: scores });
}
