/**
 * Self-speculation: drafts tokens at a shallower exit of the same model while that exit is confident.
 *
 * Must not know: whether drafts pay off.
 *
 * Verification reuses the states that the shallow stages compute for a draft.
 */
import { draftToken } from '../sampling/sample-batch.js';
import type { Executor } from '../execution/executor.js';
import type { Chunk } from '../execution/step-batch.js';
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
  const rows = [{ slot, exit: units }];
  while (tokens.length - before < most) {
    const isBehind = slot.least(units.needed) < tokens.length - 1;
    const chunks: Chunk[] = isBehind ? [{ slot, exit: units, end: tokens.length - 1 }] : [];
    executor.run({ chunks, rows, draft: null });
    const token = draftToken(executor.head, sequence, tokens.length - before, LEAST_PROBABILITY);
    if (token === null) break;
    tokens.push(token);
    if (isEnd(tokens.slice(before))) break;
  }
  return tokens.splice(before);
}
