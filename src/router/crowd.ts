/**
 * Whether more wait than can be served: what is due may then not be what is served best.
 *
 * Knows: how many hold slots and wait. Must not know: what they want.
 */
import type { RouterState } from './types.js';

type Crowd = Pick<RouterState, 'live' | 'slots' | 'waiting'>;

/** Waiting requests per slot from which on nobody can count on being alone. */
const CROWDED = 1;

/** Somebody waits for a slot that others hold: only answers that end make room. */
export function isBlocked({ live, slots, waiting }: Crowd): boolean {
  return live.length >= slots && waiting.length > 0;
}

/** So many wait that they will be served in company, at the pace that everybody gets. */
export function isCrowded({ slots, waiting }: Pick<Crowd, 'slots' | 'waiting'>): boolean {
  return waiting.length >= CROWDED * slots;
}
