/** The exits of the requests that begin, and how all requests fare with them. */
import type { ExitIndex } from './cost/model.js';
import type { StepSum } from './cost/step-costs.js';
import { type ExitOf, type Outlook, outlook } from './outlook.js';
import { breaks, isBroken, promises, type Promises } from './promise.js';
import type { PlannedRequest } from './planned-request.js';
import { inOrder, othersShare, type Snapshot } from './snapshot.js';

type Fates = Outlook['fates'];

/**
 * The exits at which answers are worth most within their budgets, in order of service. One bound for all gets shallower
 * until every promise holds that the shallowest exits keep.
 * @param most deepest exit that the load allows
 */
export function chooseExits(state: Snapshot, most: ExitIndex): Fates {
  const { requests, policy } = state;
  // Depth takes no time of other keys.
  const promisedShare = Math.max(policy.leastPromisedShare, 1 - othersShare(requests, policy));
  const careful = Math.max(1, (1 - policy.noBudgetShare) / promisedShare);
  let least: Promises | null = null;
  for (let bound = most; ; bound -= 1) {
    const fates = fatesWithin(state, requests, bound);
    // A lone request begins no shallower for a promise than without one.
    if (bound === 0 || requests.length < 2) return fates;
    const found = promises(state, requests, { careful, exitOf: (each) => fates.get(each)?.exit ?? each.currentExit });
    if (![...found.values()].some(isBroken)) return fates;
    if (!breaks(found, (least ??= promises(state, requests, { careful })))) return fates;
  }
}

/** How requests fare if each that begins takes its best exit within a bound. */
export function fatesWithin(state: Snapshot, requests: readonly PlannedRequest[], bound: ExitIndex): Fates {
  const { now, engine } = state;
  const exitOf: ExitOf = (each, beginsAt, step) =>
    each.isBeginning && each.isPrefilling ? bestExit(each, bound, now + beginsAt, step) : each.currentExit;
  return outlook(state, inOrder(requests).all, { slots: engine.slots, exitOf, drops: true }).fates;
}

/**
 * The deepest exit of the most worth; the shallowest where none is in time.
 * @param from when its prompt begins
 * @param step of the rows that it joins
 */
export function bestExit(each: PlannedRequest, bound: ExitIndex, from: number, step: StepSum): ExitIndex {
  if (!each.hasDeadline) return each.maxExit;
  let best: ExitIndex = each.minExit;
  let most = 0;
  for (const exit of each.exitsWithin(bound)) {
    const stepMs = step.with(exit);
    const begins = from + each.prefillMs(exit);
    const steps = (each.end - begins) / stepMs;
    const isFirstLate = each.sequence.firstTokenAt === null && begins + stepMs > each.firstDue;
    if (isFirstLate || stepMs > each.tpotMs || steps <= 0) continue;
    const worth = each.utilityAt(exit, steps);
    if (worth > most) [best, most] = [exit, worth];
  }
  return best;
}
