/**
 * Promises: whether the budgets that the router guarantees hold, with one more of them.
 *
 * A promise covers the prompt at the shallowest exit, and the tokens to the end of a sentence. An answer that can't land is
 * covered to its own end. Slots and the KV cache count as well. Requests without a budget run in their share alone, and
 * yield their slots.
 */
import { at } from '../cost/model.js';
import { type Player, play } from './forecast.js';
import type { PlanningState } from './planning-state.js';
import type { PlannedRequest } from './request.js';

/** Whether a request's budget is promised. */
export function isPromised({ hasDeadline, request }: PlannedRequest): boolean {
  return hasDeadline && request.serviceClass === 'guaranteed';
}

/**
 * The promised requests that would be late, each with the time that it covers, longer by a factor.
 * @param careful factor on all times, 1 or more
 * @param chosen exits of requests that begin; absent: the shallowest
 */
export function latePromises(
  state: PlanningState,
  careful: number,
  chosen: ReadonlyMap<PlannedRequest, number> = new Map(),
): ReadonlySet<PlannedRequest> {
  const { now, engine, inflation } = state;
  const promised = state.requests.filter(isPromised);
  const factor = careful * inflation;
  const costs = state.costs.map(({ rowMs, fixedMs }) => ({ rowMs: rowMs * factor, fixedMs: fixedMs * factor }));
  const exitOf = (each: PlannedRequest): number =>
    chosen.get(each) ?? (each.isBeginning ? each.minExit : each.currentExit);
  const exits = promised.map(exitOf);
  const playerOf = (each: PlannedRequest, tokens: number, leavesAt: number): Player => {
    const exit = exitOf(each);
    const setupMs = each.setupMs(exit) * factor;
    return {
      dueAt: each.dueAt,
      leavesAt,
      exit,
      setupMs,
      chunks: each.chunks(exit),
      tokens,
      hasSlot: each.live !== null,
    };
  };
  const players = promised.map((each) => playerOf(each, each.coveredSteps(exitOf(each)), Infinity));
  // Answers without a promise, but within their budgets, share the steps.
  const beside = state.requests.filter((each) => each.live !== null && each.isReachable && !isPromised(each));
  const others = beside.map((each) => playerOf(each, each.meanLeft(exitOf(each)), each.deadlines.end - now));
  const plays = play([...players, ...others], engine.slots, costs);
  const late = promised.filter((each, i) => {
    const { endsAt, firstTokenAt } = at(plays, i);
    const { deadlines, request } = each;
    const first = request.firstTokenAt ?? now + (firstTokenAt === Infinity ? 0 : firstTokenAt);
    const tokens = request.generated + at(players, i).tokens - 1;
    const tpotMs = tokens < 1 ? 0 : (now + endsAt - first) / tokens;
    return now + endsAt > deadlines.end || first > deadlines.firstToken || tpotMs > deadlines.tpotMs;
  });
  return new Set([...late, ...withoutMemory(state, promised, exits)]);
}

/** The latest promised requests whose positions the KV cache does not hold beside those of the others. */
function withoutMemory(
  { engine, costs, now }: PlanningState,
  promised: readonly PlannedRequest[],
  exits: readonly number[],
): PlannedRequest[] {
  let positions = 0;
  return promised.filter((each, i) => {
    const { request, deadlines } = each;
    const { rowMs, fixedMs } = at(costs, at(exits, i));
    // An answer that lands has no more tokens than fit before its deadline.
    const fitting = request.lands ? Math.ceil((deadlines.end - now) / Math.max(1e-3, rowMs + fixedMs)) : Infinity;
    const most = Math.min(request.maxTokens, request.generated + fitting);
    positions += request.promptLength + most;
    return positions > engine.kvPositions;
  });
}
