/**
 * What keeps arriving: prompt positions and answer tokens per millisecond, lately. A plan that spends all the time there
 * is now leaves none for the request that comes next.
 *
 * Knows: arrivals. Must not know: exits and costs.
 */

export interface Demand {
  /** Sums over past arrivals, each fading with the time since. */
  readonly positions: number;
  readonly tokens: number;
  readonly at: number;
}

/** How long an arrival counts, ms: several requests at the rates that matter, short against the swings of a day. */
const MEMORY = 4_000;

export const noDemand: Demand = { positions: 0, tokens: 0, at: -Infinity };

/** Learns of an arrival at `now`; `tokens` is the length that its answer is likely to have. */
export function observeArrival(demand: Demand, now: number, promptLength: number, tokens: number): Demand {
  const fade = fadeOf(demand, now);
  return { positions: demand.positions * fade + promptLength, tokens: demand.tokens * fade + tokens, at: now };
}

/** Prompt positions and answer tokens that arrive per millisecond. */
export function ratesAt(demand: Demand, now: number): { positions: number; tokens: number } {
  const fade = fadeOf(demand, now) / MEMORY;
  return { positions: demand.positions * fade, tokens: demand.tokens * fade };
}

function fadeOf(demand: Demand, now: number): number {
  return demand.at === -Infinity ? 0 : Math.exp(-Math.max(0, now - demand.at) / MEMORY);
}
