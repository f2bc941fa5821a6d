/**
 * Prefix reuse: finds a stored or live sequence that begins with the same tokens.
 *
 * Pure. Must not know: memory. Only exact token matches count.
 *
 * Links prompts in progress that share a prefix: one prompt leads, and the others copy the shared part from it.
 *
 * Pure. Must not know: memory, plans.
 *
 * A leader delays no other prompt: the scheduler decides which prompt runs first, and that prompt copies any progress
 * that exists by then (SlotManager.share). The link announces the coming prefix. Plans then count it once, and
 * followers copy it as soon as it is ready.
 */
import type { Slot } from './units.js';
import type { PrefixLeader, Sequence } from '../sequence.js';

/** Shorter matches cost more to copy and to track than to compute. */
export const LEAST_MATCH_TOKENS = 16;

export interface PrefixMatch {
  readonly slot: Slot;
  readonly length: number;
}

/**
 * Positions left to prefill, unless none is left: the last token is decoded, and a prefill of one position rounds
 * differently (chunkEnd in chunks.ts).
 */
const LEAST_LEFT_POSITIONS = 3;

/** Number of equal tokens at the beginning of both, at most `most`. */
export function commonLength(a: readonly number[], b: readonly number[], most: number): number {
  let length = 0;
  while (length < most && a[length] === b[length]) length++;
  return length;
}

/**
 * The match that saves most positions; null if no match is worthwhile. A match that leaves nothing to prefill holds all
 * positions but the last.
 * @param needed units that the sequence's exit needs; only their processed positions count
 * @param own the sequence's slot, if it has one; only positions beyond it count
 * @param granularity positions that slots share together
 */
export function findPrefix(
  tokens: readonly number[],
  slots: readonly Slot[],
  needed: readonly number[],
  own: Slot | null = null,
  granularity = 1,
): PrefixMatch | null {
  let best: PrefixMatch | null = null;
  let saved = 0;
  for (const slot of slots) {
    if (slot === own) continue;
    const most = Math.min(tokens.length - 1, slot.length);
    if (most < LEAST_MATCH_TOKENS || gain(slot, most, needed, own) <= saved) continue;
    const common = commonLength(tokens, slot.tokens, most);
    const isWhole = common === tokens.length - 1 && slot.least(needed) >= common;
    const wanted = isWhole ? common : Math.min(common, tokens.length - LEAST_LEFT_POSITIONS);
    // A stored sequence that matches for the most part gives its slot.
    const isTakenOver = own === null && !slot.live && wanted * 2 > slot.length;
    const length = isTakenOver ? wanted : wanted - (wanted % granularity);
    const gained = gain(slot, length, needed, own);
    if (length < LEAST_MATCH_TOKENS || gained < LEAST_MATCH_TOKENS || gained <= saved) continue;
    best = { slot, length };
    saved = gained;
  }
  return best;
}

/** Positions, summed over all units, that the first `length` of a slot save. */
function gain(slot: Slot, length: number, needed: readonly number[], own: Slot | null): number {
  let positions = 0;
  for (const unit of needed)
    positions += Math.max(0, Math.min(length, slot.frontier(unit)) - (own?.frontier(unit) ?? 0));
  return positions;
}

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
