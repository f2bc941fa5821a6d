/**
 * Prefix reuse: finds a stored or live sequence that begins with the same tokens. Only exact matches count.
 *
 * Of prompts in progress that share a prefix, one computes it and the others copy it. Which one it is follows from the
 * order of service alone: a prompt is in no step with another one that computes positions for both.
 *
 * Pure. Must not know: memory, plans.
 */
import type { Slot } from './units.js';
import type { SlotTable } from './slot-table.js';
import type { Sequence } from '../sequence.js';

/** Shorter matches cost more to copy and to track than to compute. */
const LEAST_MATCH_TOKENS = 16;
/**
 * Positions left to prefill, unless none is left: the last token is decoded, and a prefill of one position rounds
 * differently (chunkEnd in chunks.ts).
 */
const LEAST_LEFT_POSITIONS = 3;

/** The first positions of a slot. It is valid as long as the slot holds the same `tokens`. */
export interface Prefix {
  readonly slot: Slot;
  readonly tokens: readonly number[];
  readonly length: number;
}

/** Number of equal tokens at the beginning of both, at most `most`. */
export function commonLength(a: readonly number[], b: readonly number[], most: number): number {
  let length = 0;
  while (length < most && a[length] === b[length]) length++;
  return length;
}

/**
 * The match that saves a sequence most positions beyond those of its own slot; null if none is worthwhile. A match that
 * leaves nothing to prefill holds all positions but the last. Only positions count that the units of its exit have.
 *
 * A slot of another prefix space stays invisible: its match would show a client the text of another one.
 */
export function findPrefix(
  { tokens, needed, slot: own, request }: Sequence,
  { slots, granularity }: Pick<SlotTable, 'slots' | 'granularity'>,
): Prefix | null {
  let best: Prefix | null = null;
  let most = LEAST_MATCH_TOKENS - 1;
  for (const slot of slots) {
    if (slot === own || slot.space !== request.prefixSpace) continue;
    const end = Math.min(tokens.length - 1, slot.length);
    if (gain(slot, end, needed, own) <= most) continue;
    const common = commonLength(tokens, slot.tokens, end);
    const isWhole = common === tokens.length - 1 && slot.least(needed) >= common;
    const wanted = isWhole ? common : Math.min(common, tokens.length - LEAST_LEFT_POSITIONS);
    const length = wanted - (wanted % granularity);
    const saved = gain(slot, length, needed, own);
    if (length < LEAST_MATCH_TOKENS || saved <= most) continue;
    best = { slot, tokens: slot.tokens, length };
    most = saved;
  }
  return best;
}

/** Positions, summed over all units, that the first `length` of a slot save. */
function gain(slot: Slot, length: number, needed: readonly number[], own: Slot | null): number {
  const saved = needed.map((unit) => Math.min(length, slot.frontier(unit)) - (own?.frontier(unit) ?? 0));
  return saved.reduce((sum, positions) => sum + Math.max(0, positions), 0);
}

/** Whether a prompt in progress is to compute positions that another prompt lacks. */
export function brings(prompt: Sequence, other: Sequence): boolean {
  if (!prompt.isPrompt || prompt.request.prefixSpace !== other.request.prefixSpace) return false;
  const most = Math.min(prompt.tokens.length, other.tokens.length) - 1;
  const least = Math.max(prompt.frontier(0) + 1, other.frontier(0) + LEAST_MATCH_TOKENS);
  return least <= most && commonLength(prompt.tokens, other.tokens, most) >= least;
}
