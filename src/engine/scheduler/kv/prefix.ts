/**
 * Prefix reuse: finds a stored or live sequence that begins with the same tokens.
 *
 * Pure. Must not know: memory. Only exact token matches count.
 */
import type { Slot } from './slot.js';

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
