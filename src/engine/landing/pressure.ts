/**
 * End pressure: an amount that is added to the logits of the end tokens where a text may end.
 *
 * Pure functions. Must not know: tokens, logits, sequences.
 */
import type { Landing } from '../../scheduler/router.js';
import type { MayEnd } from './place.js';

/** The tunables of a landing. */
export const LANDING = {
  /** Largest amount at a natural end, at the end of the window. An end of probability 1:3000 is an even chance there. */
  most: 8,
  /** Amount that forces an end. Logits of a row differ by less than 40. */
  forced: 50,
  /** Share of sentences that are no longer than planned. Each longer one at the deadline is an answer that is cut. */
  quantile: 0.9,
  /** Length of a sentence in tokens at that quantile, before any was seen: English prose of small models. */
  sentenceTokens: 24,
  /** Weight of one sentence in that length: about the last 20 long ones count. */
  gain: 0.1,
  /** Thoughts end by this share of the window before its begin, so that an answer has as much time again. */
  thoughtsShare: 0.5,
} as const;

/**
 * @param nextTokens tokens until the text may end again, at the quantile of LANDING
 * @returns 0 for an unchanged answer
 */
export function endPressure(
  { opensAt, endsAt, tokenMs }: Landing,
  now: number,
  mayEnd: MayEnd,
  nextTokens: number,
): number {
  // A long sentence may fill more than half of a short budget: an end before the window would be too early for most.
  if (mayEnd === 'no' || now <= opensAt) return 0;
  // From a later place, the next end would not come in time. The end token takes a step of its own.
  const lastAt = endsAt - (nextTokens + 1) * tokenMs;
  if (now >= lastAt) return LANDING.forced;
  return mayEnd === 'forced' ? 0 : (LANDING.most * (now - opensAt)) / (lastAt - opensAt);
}

/** Whether the closing token of thoughts is due. */
export function thoughtsEnd({ opensAt, endsAt, tokenMs }: Landing, now: number): boolean {
  return now + tokenMs >= opensAt - LANDING.thoughtsShare * (endsAt - opensAt);
}
