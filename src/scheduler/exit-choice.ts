/**
 * The exits of the requests that begin, and the forecast of the batch with them.
 */
import type { ExitIndex } from '../cost/model.js';
import { StepSum } from '../cost/step-costs.js';
import { type Played, type Player, play } from './forecast.js';
import { type Late, getsLater, latePromises } from './promise.js';
import type { PlannedRequest } from './planned-request.js';
import { type PlanningState, inService } from './snapshot.js';

/** Exits of the requests that begin. */
export type Exits = ReadonlyMap<PlannedRequest, ExitIndex>;

/**
 * In order of service, each request takes the exit at which its answer is worth most within its budget. One bound for
 * all gets shallower until every promise holds that the shallowest exits keep.
 * @param most deepest exit that the load allows
 */
export function chooseExits(state: PlanningState, most: ExitIndex): Exits {
  // Depth takes no time of other keys.
  const careful = Math.max(1, (1 - state.policy.noBudgetShare) / Math.max(0.1, 1 - state.othersShare));
  const order = inService(state.requests);
  let unavoidable: Late | null = null;
  for (let deepest = most; ; deepest -= 1) {
    const exits = exitsWithin(state, order, deepest);
    // A lone request begins no shallower for a promise than without one.
    if (deepest === 0 || state.requests.length < 2) return exits;
    const late = latePromises(state, careful, exits);
    if (late.size === 0 || !getsLater(late, (unavoidable ??= latePromises(state, careful)))) return exits;
  }
}

/** @param order requests in order of service */
function exitsWithin(state: PlanningState, order: readonly PlannedRequest[], deepest: ExitIndex): Exits {
  // The step of the rows that the next request joins.
  const company = new StepSum(state.costs);
  const exits = new Map<PlannedRequest, ExitIndex>();
  for (const each of state.requests) if (each.live !== null && !each.isPrefilling) company.add(each.currentExit);
  let waitMs = 0;
  for (const each of order) {
    if (!each.isPrefilling) {
      if (each.isBeginning) exits.set(each, each.currentExit);
      continue;
    }
    const exit = each.isBeginning ? bestExit(each, deepest, state.now + waitMs, company) : each.currentExit;
    if (each.isBeginning) exits.set(each, exit);
    // A request that is late anyway holds up none.
    if (each.hasDeadline && !each.isReachable) continue;
    waitMs += each.setupMs(exit);
    company.add(exit);
  }
  return exits;
}

/** The deepest exit of the most worth; the shallowest where none is in time. @param from when its prompt begins */
function bestExit(each: PlannedRequest, deepest: ExitIndex, from: number, company: StepSum): ExitIndex {
  if (!each.hasDeadline) return each.maxExit;
  let [best, most]: [ExitIndex, number] = [each.minExit, 0];
  for (let exit = Math.max(each.minExit, Math.min(each.maxExit, deepest)); exit >= each.minExit; exit -= 1) {
    const worth = worthOf(each, exit, from, company.with(exit));
    if (worth > most) [best, most] = [exit, worth];
  }
  return best;
}

function worthOf(each: PlannedRequest, exit: ExitIndex, from: number, stepMs: number): number {
  const { deadlines, request } = each;
  const begins = from + each.setupMs(exit);
  const isFirstLate = request.firstTokenAt === null && begins + stepMs > deadlines.firstToken;
  if (isFirstLate || stepMs > deadlines.tpotMs) return 0;
  const fitting = (deadlines.end - begins) / stepMs;
  return fitting <= 0 ? 0 : each.worthAt(exit, fitting);
}

/** How the present requests fare if no other one comes, in the order of the state. */
export function forecast(state: PlanningState, exits: Exits): readonly Played[] {
  const { requests, engine, costs } = state;
  const players = requests.map((each): Player => {
    const player = each.player(exits.get(each) ?? each.currentExit);
    return { ...player, dueAt: each.isReachable ? each.dueAt : Infinity, tokens: Math.max(1, player.tokens) };
  });
  return play(players, engine.slots, costs);
}

/**
 * Milliseconds until a new request of no length has its first token, behind all others and with every prompt at its
 * shallowest exit. It is the load of a server in the unit of budgets, for balancers of several servers. Depth gives way
 * under load, so deeper exits say nothing about the room that is left. 0 on an idle server.
 * @param state with all waiting requests
 */
export function predictedWaitMs({ requests, engine, costs }: PlanningState): number {
  if (requests.length === 0) return 0;
  const players = requests.map((each): Player => {
    return { ...each.player(each.isBeginning ? each.minExit : each.currentExit), leavesAt: Infinity };
  });
  const [dueAt, leavesAt, promisedBy] = [Infinity, Infinity, Infinity];
  const last = { dueAt, leavesAt, exit: 0, setupMs: 0, chunks: 1, tokens: 1, covered: 0, hasSlot: false, promisedBy };
  return play([...players, last], engine.slots, costs).at(-1)?.firstTokenAt ?? 0;
}
