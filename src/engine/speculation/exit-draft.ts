/**
 * Self-speculation: drafts from a shallower exit of the same model, as long as it is sure of itself.
 *
 * Knows: the executor, how a draft is sampled. Must not know: whether it pays.
 *
 * What the shallow stages compute for a draft is not lost: verification goes on from their states.
 */
import { draftToken } from '../sampling/sample-batch.js';
import { chunkEnd } from '../execution/select-prefill.js';
import type { Executor } from '../execution/executor.js';
import type { Sequence } from '../sequence.js';

/** Least probability of a token that the shallow exit may go on from (the paper's 13B: 0.7 to 0.95). */
const CONFIDENT = 0.6;

/**
 * Exits that can draft for a sequence: those that leave the trunk before its own does, and whose units lack no more
 * than a chunk of positions.
 */
export function draftExits(executor: Executor, { slot, exit, tokens }: Sequence): number[] {
  const { stage } = executor.exit(exit);
  const least = tokens.length - 1 - executor.model.limits.maxChunk;
  return executor.units.exits.flatMap((each, index) =>
    slot !== null && each.stage < stage && slot.least(each.needed) >= least ? [index] : [],
  );
}

/** Drafts at most `most` tokens at an exit. The sequence's tokens are as they were afterwards, its stages are ahead. */
export function draftAt(executor: Executor, sequence: Sequence, exit: number, most: number): number[] {
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
    const token = draftToken(executor.head, sequence, tokens.length - before, CONFIDENT);
    if (token === null) break;
    tokens.push(token);
  }
  return tokens.splice(before);
}
