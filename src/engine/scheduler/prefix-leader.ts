/**
 * Links prompts in progress that share a prefix: one prompt leads, and the others copy the shared part from it.
 *
 * Pure. Must not know: memory, plans.
 *
 * A leader delays no other prompt: the scheduler decides which prompt runs first, and that prompt copies any progress
 * that exists by then (SlotManager.share). The link announces the coming prefix. Plans then count it once, and
 * followers copy it as soon as it is ready.
 */
import { LEAST_MATCH_TOKENS, commonLength } from './kv/prefix.js';
import type { PrefixLeader, Sequence } from './sequence.js';

/** Most sequences that are compared, newest first: sequences of one burst are neighbours. */
const COMPARED_SEQUENCES = 64;

/**
 * The sequence with the longest common prefix among those of the same prefix space that still prefill it and are due no
 * later.
 * @param before sequences ahead in order of service, newest last
 */
export function leaderOf(sequence: Sequence, before: readonly Sequence[]): PrefixLeader | null {
  let best: PrefixLeader | null = null;
  for (const candidate of before.slice(-COMPARED_SEQUENCES).reverse()) {
    const most = Math.min(sequence.tokens.length, candidate.tokens.length) - 1;
    if (candidate.request.prefixSpace !== sequence.request.prefixSpace) continue;
    // An ending sequence processes nothing more.
    if (candidate.ending !== null || most < (best?.length ?? 0)) continue;
    if (!candidate.isPrompt || dueOf(candidate) > dueOf(sequence) || follows(candidate, sequence)) continue;
    const length = commonLength(sequence.tokens, candidate.tokens, most);
    // Of equal lengths, the oldest sequence wins: the others follow it as well.
    if (length >= (best?.length ?? 0)) best = { sequence: candidate, length };
  }
  return best !== null && best.length >= sequence.frontier(0) + LEAST_MATCH_TOKENS ? best : null;
}

function dueOf({ arrivedAt, budget }: Sequence): number {
  return arrivedAt + Math.min(budget?.totalMs ?? Infinity, budget?.ttftMs ?? Infinity);
}

/** Whether a sequence follows another, directly or through others. */
function follows(sequence: Sequence, other: Sequence): boolean {
  for (let at: Sequence | undefined = sequence; at !== undefined; at = at.leader?.sequence)
    if (at === other) return true;
  return false;
}

/**
 * A choice has the stored prefix of the choice before it, and its leader where that one has the whole prompt; else the
 * choice before it leads.
 * @param before has been looked up
 * @returns false for sequences that are no choices of one request
 */
export function lookUpBehind(before: Sequence, sequence: Sequence): boolean {
  const { prompt, depth, prefixSpace, promptLogprobs } = sequence.request;
  const own = before.request;
  const isChoice = own.prompt === prompt && own.depth === depth && own.prefixSpace === prefixSpace;
  if (!isChoice || before.exit !== sequence.exit || before.ending !== null || promptLogprobs !== null) return false;
  const length = sequence.tokens.length - 1;
  sequence.prefix = before.prefix;
  const isLong = length >= sequence.frontier(0) + LEAST_MATCH_TOKENS;
  const leader = before.leader?.length === length ? before.leader : { sequence: before, length };
  sequence.leader = isLong ? leader : null;
  return true;
}
