/**
 * End pressure: an amount that is added to the logits of the end tokens where a text may end.
 *
 * Pure functions. Must not know: tokens, logits, sequences.
 */
import type { LandingPace } from '../scheduler/step-plan.js';
import type { LandingWindow } from '../scheduler/types.js';
import type { MayEnd } from '../../gateway/text/sentences/sentence-scanner.js';

/** The tunables of a landing. */
export const LANDING = {
  /**
   * Largest amount at a natural end, at the end of the window. An end of probability 1:3000 is an even chance there.
   */
  most: 8,
  /** Amount that forces an end. Logits of a row differ by less than 40. */
  forced: 50,
  /**
   * Least probability, at temperature 1, of an end that is the model's own: of ten such answers one would end there. An
   * end below it is the budget's, and `finish_reason` says `length`.
   */
  ownEnd: 0.1,
  /** Thoughts end by this share of the window before its begin, so that an answer has as much time again. */
  thoughtsShare: 0.5,
} as const;

/** The amount on the logits of the end tokens for one token of an answer. */
export interface EndPressure {
  readonly amount: number;
  /**
   * Whether the model's preferred next token shows that the sentence goes on, and lifts the pressure. Null: none does.
   */
  readonly isLifted: ((next: number) => boolean) | null;
}

/** @returns 0 for an unchanged answer */
export function endPressure(
  { opensAt, endsAt, sentenceTokens }: LandingWindow,
  { decodesAt, tokenMs }: LandingPace,
  mayEnd: MayEnd,
): number {
  // A long sentence may fill more than half of a short budget: an end before the window would be too early for most.
  if (mayEnd === 'no' || decodesAt <= opensAt) return 0;
  // From a later place, the next end would not come in time. The end token takes a step of its own.
  const lastAt = endsAt - (sentenceTokens + 1) * tokenMs;
  if (decodesAt >= lastAt) return LANDING.forced;
  return mayEnd === 'line_break' ? 0 : (LANDING.most * (decodesAt - opensAt)) / (lastAt - opensAt);
}

/** Whether the closing token of thoughts is due. */
export function thoughtsEnd({ opensAt, endsAt }: LandingWindow, { decodesAt, tokenMs }: LandingPace): boolean {
  return decodesAt + tokenMs >= opensAt - LANDING.thoughtsShare * (endsAt - opensAt);
}
