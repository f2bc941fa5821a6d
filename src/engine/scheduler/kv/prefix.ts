/**
 * Prefix reuse: finds a stored or live sequence that begins with the same tokens. Only exact matches count.
 *
 * Of prompts in progress that share a prefix, one computes it and the others copy it. Which one it is follows from the
 * order of service alone: a prompt is in no step with another one that computes positions for both.
 *
 * Pure. Must not know: memory, plans.
 */
import type { Slot } from './units.js';
import type { Sequence } from '../sequence.js';

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

/** Whether a prompt in progress is to compute positions that another prompt lacks. */
export function brings(prompt: Sequence, other: Sequence): boolean {
  if (!prompt.isPrompt || prompt.request.prefixSpace !== other.request.prefixSpace) return false;
  const most = Math.min(prompt.tokens.length, other.tokens.length) - 1;
  const least = Math.max(prompt.frontier(0) + 1, other.frontier(0) + LEAST_MATCH_TOKENS);
  return least <= most && commonLength(prompt.tokens, other.tokens, most) >= least;
}
