/**
 * Depth allocation: every request with a budget goes as deep as the objective gains, and rows without one fill what is
 * left.
 *
 * All rows share the machine, so a budget buys no depth of its own: it limits the milliseconds that are spent before its
 * deadline.
 */
import { at } from '../cost/model.js';
import { promptMs, tokenMs } from '../cost/step-costs.js';
import type { Arrivals } from './estimators/arrivals.js';
import { Feasibility } from './feasibility.js';
import type { PlanningState } from './planning-state.js';
import { plannedChunk } from './policy.js';
import { isPastBudget, type PlannedRequest, SHARED_ROWS } from './request.js';

export interface Allocation {
  readonly state: PlanningState;
  /** It holds the exit of each request. */
  readonly feasibility: Feasibility;
  /** Rows that skip the step. */
  readonly paused: readonly PlannedRequest[];
}

/**
 * Decoding requests keep the exits in force, or take the next one below. Then backfill, and then prompts go deep. Answers
 * get no deeper mid-stream: the catch-up stalls the step of all rows.
 */
export function allocateDepth(state: PlanningState, arrivals: Arrivals): Allocation {
  const feasibility = new Feasibility(state, arrivals);
  const steady = isLight(state, arrivals) ? steadyExits(state) : new Map<PlannedRequest, number>();
  feasibility.assign(steady);
  const deepen = (planned: PlannedRequest, top: number): void => {
    if (feasibility.dropped.has(planned) || steady.has(planned)) return;
    let exit = top;
    while (exit > feasibility.exitOf(planned) && !feasibility.tryDeepen(planned, exit)) exit -= 1;
  };
  for (const planned of state.requests) {
    if (!planned.isPrefilling) deepen(planned, Math.min(planned.maxExit, planned.currentExit));
  }
  const paused = backfill(state, feasibility);
  for (const planned of state.requests) if (planned.isPrefilling) deepen(planned, planned.maxExit);
  return { state, feasibility, paused };
}

/** Whether few requests within their budgets are present, and full depth has time for the present arrivals. */
function isLight({ requests, policy, model, costs, now }: PlanningState, arrivals: Arrivals): boolean {
  if (requests.filter(({ request }) => !isPastBudget(request, now, policy)).length > policy.lightRequests) return false;
  const deepest = costs.length - 1;
  const chunk = plannedChunk(policy);
  const { positions, tokens } = arrivals.within(now, 1);
  const promptShare = (positions * promptMs(model, deepest, chunk, chunk)) / chunk;
  return promptShare + tokens * tokenMs(at(costs, deepest), SHARED_ROWS) <= policy.lightLoad;
}

/**
 * Exits that no plan changes. Answers of estimated length keep their exit. A prompt begins at the deepest one where that
 * is likely to be in time alone. A change pays only against a queue: the answer then goes on like the longest answers of
 * its new exit, and a row beside deeper ones gains no speed.
 */
function steadyExits({ requests, policy, now, inflation }: PlanningState): Map<PlannedRequest, number> {
  return new Map(
    requests.flatMap((planned): [PlannedRequest, number][] => {
      const { request, hasDeadline, isPrefilling, currentExit, minExit, maxExit, deadlines } = planned;
      if (!hasDeadline || request.isExactLength) return [];
      // The answer behind thoughts of a shallower exit begins here, like a prompt.
      if (!isPrefilling && (currentExit < maxExit || planned.remainingPrefill(maxExit) === 0)) {
        // A guarantee holds however long the answer gets.
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
