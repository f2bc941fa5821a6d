/**
 * Prompts that begin alike and are under way together: one goes first, the others take from it what they share.
 *
 * Pure. Knows: sequences, their tokens, who is due when. Must not know: memory, plans.
 *
 * Nobody is held up by it: who goes first is the router's choice, and whoever does takes along what any other has done
 * by then (SlotManager.share). A leader only tells what is coming, so that plans count it once and it is taken over as
 * soon as it is there.
 */
import { LEAST_MATCH, commonLength } from './prefix.js';
import type { PrefixLeader, Sequence } from '../sequence.js';

/** Sequences that are compared, newest first: those that arrive together are next to each other. */
const COMPARED = 64;

/**
 * The one with the longest common beginning among those that still have to prefill it and are due no later.
 * @param before those that are ahead of the sequence in order of service, newest last
 */
export function leaderOf(sequence: Sequence, before: readonly Sequence[]): PrefixLeader | null {
  let best: PrefixLeader | null = null;
  for (const by of before.slice(-COMPARED).reverse()) {
    const most = Math.min(sequence.tokens.length, by.tokens.length) - 1;
    // Who is about to end brings nothing any more.
    if (by.ending !== null || most < (best?.length ?? 0)) continue;
    if (!by.isPrompt || dueOf(by) > dueOf(sequence) || follows(by, sequence)) continue;
    const length = commonLength(sequence.tokens, by.tokens, most);
    // Of equal ones the oldest: the others follow it as well.
    if (length >= (best?.length ?? 0)) best = { sequence: by, length };
  }
  return best !== null && best.length >= sequence.frontier(0) + LEAST_MATCH ? best : null;
}

function dueOf({ request: { arrivedAt, depth } }: Sequence): number {
  return arrivedAt + Math.min(depth.budget?.totalMs ?? Infinity, depth.budget?.ttftMs ?? Infinity);
}

/** Whether a sequence waits for another, be it through others. */
function follows(sequence: Sequence, other: Sequence): boolean {
  for (let at: Sequence | undefined = sequence; at !== undefined; at = at.leader?.sequence)
    if (at === other) return true;
  return false;
}
