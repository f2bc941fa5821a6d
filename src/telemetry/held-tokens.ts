/** Expected lengths of the sequences that a server holds: the load that a router in front of servers asks for. */
import type { PlannedEvent } from '../engine/protocol.js';

export interface HeldTokens {
  /** Mean expected length of a sequence; null without one. */
  readonly mean: number | null;
  /** Expected tokens that are still to be generated, all sequences together. */
  readonly left: number;
}

interface Held {
  /** Null: without a plan, and without an expected length. */
  readonly plan: Pick<PlannedEvent, 'expectedTokens'> | null;
  /** Generated so far. */
  readonly tokens: number;
}

/** The expected tokens of these sequences. */
export function heldTokens(sequences: Iterable<Held>): HeldTokens {
  let [planned, expected, left] = [0, 0, 0];
  for (const { plan, tokens } of sequences) {
    if (plan === null) continue;
    planned++;
    expected += plan.expectedTokens;
    left += Math.max(0, plan.expectedTokens - tokens);
  }
  return { mean: planned === 0 ? null : expected / planned, left };
}
