/**
 * Self-speculation: drafts tokens at a shallower exit of the same model while that exit is confident.
 *
 * Must not know: whether drafts pay off.
 *
 * Verification reuses the states that the shallow stages compute for a draft.
 */
import { draftToken } from '../sampling/sample-batch.js';
import { chunkEnd } from '../execution/select-prefill.js';
import type { Executor } from '../execution/executor.js';
import type { ExitIndex } from '../protocol.js';
import type { Sequence } from '../sequence.js';

/** Least probability of a drafted token (the paper's 13B model: 0.7 to 0.95). */
const LEAST_PROBABILITY = 0.6;

/**
 * Exits that can draft for a sequence. Such an exit leaves the trunk earlier than the sequence's own exit, and its units
 * lack at most one chunk of positions.
 */
export function draftExits(executor: Executor, { slot, exit, tokens }: Sequence): ExitIndex[] {
  const { stage } = executor.exit(exit);
  const least = tokens.length - 1 - executor.model.limits.maxChunk;
  return executor.units.exits.flatMap((each, index) =>
    slot !== null && each.stage < stage && slot.least(each.needed) >= least ? [index] : [],
  );
}

/**
 * Drafts at most `most` tokens at an exit. Afterwards, the sequence has its old tokens, and its stages are ahead.
 * @param isEnd whether the answer ends behind a draft
 */
export function draftAt(
  executor: Executor,
  sequence: Sequence,
  exit: ExitIndex,
  most: number,
  isEnd: (draft: readonly number[]) => boolean = () => false,
): number[] {
  const { slot, tokens } = sequence;
  const units = executor.exit(exit);
  const before = tokens.length;
  if (slot === null) return [];
  while (slot.least(units.needed) < before - 1) {
    const start = slot.least(units.needed);
    executor.advance(slot, exit, chunkEnd(start, executor.model.limits.maxChunk, before - 1));
  }
  while (tokens.length - before < most) {
    executor.decode([{ slot, exit: units }]);
    const token = draftToken(executor.head, sequence, tokens.length - before, LEAST_PROBABILITY);
    if (token === null) break;
    tokens.push(token);
    if (isEnd(tokens.slice(before))) break;
  }
  return tokens.splice(before);
}
