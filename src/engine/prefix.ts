/**
 * Prefix reuse: which stored or live sequence begins with the same tokens.
 *
 * Pure. Knows: tokens and frontiers. Must not know: memory. Only exact token matches count; nothing else is shared.
 */
import type { Slot } from './slot.js';

/** Shorter matches cost more to copy and to track than to compute. */
const LEAST_MATCH = 16;

export interface PrefixMatch {
  readonly slot: Slot;
  readonly length: number;
  /** The stored sequence is not live and nearly all of it matches: take its slot instead of copying. */
  readonly takeOver: boolean;
}

/** Positions left to prefill: the last token's is decoded, and a prefill of one position rounds otherwise (chunks.ts). */
const LEFT = 3;

/** The longest usable match; null where none is worth it. */
export function findPrefix(tokens: readonly number[], slots: readonly Slot[]): PrefixMatch | null {
  let best: PrefixMatch | null = null;
  for (const slot of slots) {
    const most = Math.min(tokens.length - LEFT, slot.length);
    if (most < LEAST_MATCH || most <= (best?.length ?? 0)) continue;
    let length = 0;
    while (length < most && tokens[length] === slot.tokens[length]) length++;
    if (length >= LEAST_MATCH && length > (best?.length ?? 0))
      best = { slot, length, takeOver: !slot.live && length * 2 > slot.length };
  }
  return best;
}
