/**
 * Prefix reuse: finds a stored or live sequence that begins with the same tokens. Only exact matches count.
 *
 * Of prompts in progress that share a prefix, one leads, and the others copy the shared part from it. A leader delays
 * no other prompt: the prompt that runs first copies any progress that exists by then (SlotManager.share). The link
 * announces the coming prefix. Plans then count it once, and followers copy it as soon as it is ready.
 *
 * Pure. Must not know: memory, plans.
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
    const length = wanted - (wanted % granularity);
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

/** Most sequences that are compared, the newest: sequences of one burst are neighbours. */
const COMPARED_SEQUENCES = 64;

/**
 * The sequence with the longest common prefix among those of the same prefix space that still prefill it, follow no
 * other one, and are due no later. Of equal prefixes, the oldest sequence leads.
 * @param before sequences ahead in order of service, newest last
 */
export function leaderOf(sequence: Sequence, before: readonly Sequence[]): PrefixLeader | null {
  const { tokens, request } = sequence;
  const leads = (each: Sequence): boolean =>
    each.isPrompt && each.leader === null && each.ending === null && dueOf(each) <= dueOf(sequence);
  const candidates = before.filter((each) => each.request.prefixSpace === request.prefixSpace && leads(each));
  let best: PrefixLeader | null = null;
  let most = sequence.frontier(0) + LEAST_MATCH_TOKENS - 1;
  for (const candidate of candidates.slice(-COMPARED_SEQUENCES)) {
    const shorter = Math.min(tokens.length, candidate.tokens.length) - 1;
    const length = shorter > most ? commonLength(tokens, candidate.tokens, shorter) : 0;
    if (length <= most) continue;
    best = { sequence: candidate, length };
    most = length;
  }
  return best;
}

function dueOf({ arrivedAt, budget }: Sequence): number {
  return arrivedAt + Math.min(budget?.totalMs ?? Infinity, budget?.ttftMs ?? Infinity);
}
