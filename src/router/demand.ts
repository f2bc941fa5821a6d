/**
 * What keeps arriving: prompt positions and answer tokens per millisecond, lately, and how long they may take. A plan
 * that spends all the time there is now leaves none for the request that comes next.
 *
 * Knows: arrivals. Must not know: exits and costs.
 */
import type { Budget } from './types.js';

/** Arrivals of one class of urgency: sums that fade with the time since. */
export interface Arrivals {
  readonly requests: number;
  readonly positions: number;
  readonly tokens: number;
}

export interface Demand {
  /** By the budget's logarithm; the last are those that nobody waits for. */
  readonly classes: readonly Arrivals[];
  readonly at: number;
}

/** How long an arrival counts, ms: several requests at the rates that matter, short against the swings of a day. */
const MEMORY = 6_000;
/** Budgets from 2^BASE ms on, a class for each doubling. */
const BASE = 4;
const CLASSES = 16;

export const noDemand: Demand = {
  classes: Array.from({ length: CLASSES }, () => ({ requests: 0, positions: 0, tokens: 0 })),
  at: -Infinity,
};

const classOf = (ms: number): number =>
  ms === Infinity ? CLASSES - 1 : Math.min(CLASSES - 2, Math.max(0, Math.floor(Math.log2(Math.max(1, ms))) - BASE));

/** Learns of an arrival at `now`, with so many positions to prefill; `tokens`: how long its answer is likely to be. */
export function observeArrival(
  demand: Demand,
  now: number,
  toPrefill: number,
  tokens: number,
  budget: Budget | null,
): Demand {
  const fade = fadeOf(demand, now);
  const own = classOf(Math.min(budget?.totalMs ?? Infinity, paceOf(budget, tokens)));
  return {
    classes: demand.classes.map(({ requests, positions, tokens: sum }, i) => ({
      requests: requests * fade + Number(i === own),
      positions: positions * fade + (i === own ? toPrefill : 0),
      tokens: sum * fade + (i === own ? tokens : 0),
    })),
    at: now,
  };
}

/** What pace and first token allow for the whole answer. */
function paceOf(budget: Budget | null, tokens: number): number {
  if (budget === null || (budget.ttftMs === null && budget.tpotMs === null)) return Infinity;
  return (budget.ttftMs ?? 0) + (budget.tpotMs ?? 0) * tokens;
}

/**
 * Positions and tokens that are expected to arrive and to be due within the next so many ms, as a function of these:
 * a plan asks for many.
 * @param urgency share of their budget after which they are taken as due: 1 trusts that each waits for its deadline
 */
export function dueWithin(demand: Demand, now: number, urgency: number): (horizonMs: number) => Arrivals {
  const fade = fadeOf(demand, now) / MEMORY;
  const classes: (Arrivals & { readonly dueMs: number })[] = [];
  demand.classes.forEach(({ requests, positions, tokens }, i) => {
    if (fade === 0 || requests === 0 || i === CLASSES - 1) return;
    // The middle of the class. Field by field: every task reads these, and reads what is spread slowly (5% of a step).
    classes.push({ requests, positions, tokens, dueMs: urgency * 1.4 * 2 ** (BASE + i) });
  });
  return (horizonMs) => {
    let requests = 0;
    let positions = 0;
    let tokens = 0;
    for (const each of classes) {
      const open = horizonMs - each.dueMs;
      if (open <= 0) break;
      requests += each.requests * open;
      positions += each.positions * open;
      tokens += each.tokens * open;
    }
    return { requests: requests * fade, positions: positions * fade, tokens: tokens * fade };
  };
}

/** What arrives per millisecond, whenever it is due. */
export function ratesOf(demand: Demand, now: number): Arrivals {
  const fade = fadeOf(demand, now) / MEMORY;
  const sum = { requests: 0, positions: 0, tokens: 0 };
  for (const { requests, positions, tokens } of demand.classes) {
    sum.requests += requests * fade;
    sum.positions += positions * fade;
    sum.tokens += tokens * fade;
  }
  return sum;
}

function fadeOf(demand: Demand, now: number): number {
  return demand.at === -Infinity ? 0 : Math.exp(-Math.max(0, now - demand.at) / MEMORY);
}
