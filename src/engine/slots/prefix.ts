/**
 * Prefix reuse: which stored or live sequence begins with the same tokens.
 *
 * Pure. Knows: tokens and frontiers. Must not know: memory. Only exact token matches count; nothing else is shared.
 */
import type { Slot } from './slot.js';

/** Shorter matches cost more to copy and to track than to compute. */
export const LEAST_MATCH = 16;

export interface PrefixMatch {
  readonly slot: Slot;
  readonly length: number;
  /** The stored sequence is not live and nearly all of it matches: take its slot instead of copying. */
  readonly takeOver: boolean;
}

/**
 * Positions left to prefill where any are: the last token's is decoded, and a prefill of one position rounds otherwise
 * (execution/select-prefill.ts).
 */
const LEFT = 3;

/** How many tokens both begin with, at most `most`. */
export function commonLength(a: readonly number[], b: readonly number[], most: number): number {
  let length = 0;
  while (length < most && a[length] === b[length]) length++;
  return length;
}

/**
 * The match that spares most; null where none is worth it. It holds all but the last position where nothing is left to
 * prefill then.
 * @param needed units that the sequence's exit needs: only what they have processed spares anything
 * @param own its slot, where it has one: only what is beyond that counts
 */
export function findPrefix(
  tokens: readonly number[],
  slots: readonly Slot[],
  needed: readonly number[],
  own: Slot | null = null,
): PrefixMatch | null {
  let best: PrefixMatch | null = null;
  let spared = 0;
  for (const slot of slots) {
    if (slot === own) continue;
    const most = Math.min(tokens.length - 1, slot.length);
    if (most < LEAST_MATCH || gain(slot, most, needed, own) <= spared) continue;
    const common = commonLength(tokens, slot.tokens, most);
    const isWhole = common === tokens.length - 1 && slot.least(needed) >= common;
    const length = isWhole ? common : Math.min(common, tokens.length - LEFT);
    const gained = gain(slot, length, needed, own);
    if (length < LEAST_MATCH || gained < LEAST_MATCH || gained <= spared) continue;
    best = { slot, length, takeOver: !slot.live && length * 2 > slot.length };
    spared = gained;
  }
  return best;
}

/** Positions, of all units together, that the first `length` of a slot spare. */
function gain(slot: Slot, length: number, needed: readonly number[], own: Slot | null): number {
  let positions = 0;
  for (const unit of needed)
    positions += Math.max(0, Math.min(length, slot.frontier(unit)) - (own?.frontier(unit) ?? 0));
  return positions;
}
