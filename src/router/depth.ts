/**
 * Depth allocation: every request with a budget goes as deep as the objective gains, and rows without one fill what is
 * left.
 *
 * All rows share the machine, so a budget buys no depth of its own: it limits the milliseconds that are spent before its
 * deadline.
 */
import { type DepthTerms, type Expected, Feasibility } from './feasibility.js';
import type { PlanningState } from './planning-state.js';
import type { PlannedRequest } from './request.js';

export interface Allocation {
  readonly state: PlanningState;
  /** It holds the exit of each request. */
  readonly feasibility: Feasibility;
  /** Rows that skip the step. */
  readonly paused: readonly PlannedRequest[];
}

/**
 * Decoding requests keep the exits in force, or the next one up to them. Then backfill, and then prompts go deep. Decoding
 * requests go deeper last, and only while no prompt waits: their catch-up stalls the step of all rows.
 */
export function allocateDepth(state: PlanningState, expected: Expected): Allocation {
  const feasibility = new Feasibility(state, expected);
  const { keepReserve, beginReserve, deepenArrivals, deepenGain } = state.policy;
  const steady = steadyExits(state);
  feasibility.assign(steady);
  const deepen = (planned: PlannedRequest, top: number, terms: DepthTerms): void => {
    if (feasibility.dropped.has(planned) || steady.has(planned)) return;
    let exit = top;
    while (exit > feasibility.exitOf(planned) && !feasibility.tryDeepen(planned, exit, terms)) exit -= 1;
  };
  const keep: DepthTerms = { reserve: keepReserve, arrivals: 1, leastGain: 0, stallsAll: false };
  for (const planned of state.requests) {
    if (!planned.isPrefilling) deepen(planned, Math.min(planned.maxExit, planned.currentExit), keep);
  }
  const paused = backfill(state, feasibility);
  // A deeper exit of a prompt takes a longer prefill, but no change.
  const begin: DepthTerms = { ...keep, reserve: beginReserve };
  const prompts = state.requests.filter(({ isPrefilling }) => isPrefilling);
  for (const prompt of prompts) deepen(prompt, prompt.maxExit, begin);
  if (prompts.length === 0) {
    const change: DepthTerms = { ...begin, arrivals: deepenArrivals, leastGain: deepenGain, stallsAll: true };
    for (const planned of state.requests) deepen(planned, planned.maxExit, change);
  }
  return { state, feasibility, paused };
}

/**
 * Exits that no plan changes, at light load: answers of estimated length keep their exit, and prompts begin at the deepest
 * one where that is likely to be in time alone. An answer that changes its exit goes on like the longest answers of the
 * new one, and rows in company of deeper ones gain no speed, so a change pays only against a queue.
 */
function steadyExits({ requests, policy, now, inflation }: PlanningState): Map<PlannedRequest, number> {
  const prompts = requests.filter(({ isPrefilling }) => isPrefilling).length;
  if (requests.length > policy.lightRequests || prompts > 1) return new Map();
  return new Map(
    requests.flatMap((planned): [PlannedRequest, number][] => {
      const { request, hasDeadline, isPrefilling, currentExit, minExit, maxExit, deadlines } = planned;
      if (!hasDeadline || request.isExactLength) return [];
      if (!isPrefilling) {
        if (request.serviceClass === 'guaranteed') return [];
        return [[planned, Math.max(minExit, Math.min(currentExit, maxExit))]];
      }
      const openMs = (deadlines.end - now) / inflation - planned.setupMs(maxExit);
      const inTime = planned.probabilityWithin(maxExit, openMs / planned.stepMs(maxExit));
      return inTime < policy.lightConfidence ? [] : [[planned, maxExit]];
    }),
  );
}

/**
 * Rows without a budget run where every deadline has slack for them, and else when their share of the machine is due.
 * @returns the rows that skip the step
 */
function backfill(state: PlanningState, feasibility: Feasibility): PlannedRequest[] {
  const rows = state.requests.filter(({ live, isPrefilling }) => live !== null && !isPrefilling);
  // A pause gives time to rows with a deadline; without one, all rows run.
  if (!rows.some((row) => row.hasDeadline && !feasibility.dropped.has(row))) return [];
  return rows.filter((row) => {
    const exit = feasibility.exitOf(row);
    if (row.hasDeadline || feasibility.tryBackfill(exit)) return false;
    const idleMs = state.now - (row.live?.lastTokenAt ?? row.request.arrivedAt);
    return idleMs < state.stepOf([exit]) * (1 / state.policy.noBudgetShare - 1);
  });
}
