/**
 * The exits of the requests that begin, and the forecast of the batch with them.
 */
import type { ExitIndex } from './cost/model.js';
import { StepSum } from './cost/step-costs.js';
import { type BatchEntry, type BatchOutcome, forecastBatch } from './forecast.js';
import { type Late, getsLater, latePromises } from './promise.js';
import type { PlannedRequest } from './planned-request.js';
import { type Snapshot, serviceOrder } from './snapshot.js';

/** Exits of the requests that begin. */
export type Exits = ReadonlyMap<PlannedRequest, ExitIndex>;

/**
 * In order of service, each request takes the exit at which its answer is worth most within its budget. One bound for
 * all gets shallower until every promise holds that the shallowest exits keep.
 * @param most deepest exit that the load allows
 */
export function chooseExits(state: Snapshot, most: ExitIndex): Exits {
  // Depth takes no time of other keys.
  const careful = Math.max(
    1,
    (1 - state.policy.noBudgetShare) / Math.max(state.policy.leastPromisedShare, 1 - state.othersShare),
  );
  const order = serviceOrder(state.requests);
  let unavoidable: Late | null = null;
  for (let bound = most; ; bound -= 1) {
    const exits = exitsWithin(state, order, bound);
    // A lone request begins no shallower for a promise than without one.
    if (bound === 0 || state.requests.length < 2) return exits;
    const late = latePromises(state, careful, exits);
    if (late.size === 0 || !getsLater(late, (unavoidable ??= latePromises(state, careful)))) return exits;
  }
}

/** @param order requests in order of service */
function exitsWithin(state: Snapshot, order: readonly PlannedRequest[], deepest: ExitIndex): Exits {
  // The step of the rows that the next request joins.
  const company = new StepSum(state.costs);
  const exits = new Map<PlannedRequest, ExitIndex>();
  for (const each of state.requests) if (each.isLive && !each.isPrefilling) company.add(each.currentExit);
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
    waitMs += each.prefillMs(exit);
    company.add(exit);
  }
  return exits;
}

/** The deepest exit of the most worth; the shallowest where none is in time. @param from when its prompt begins */
function bestExit(each: PlannedRequest, deepest: ExitIndex, from: number, company: StepSum): ExitIndex {
  if (!each.hasDeadline) return each.maxExit;
  let best: ExitIndex = each.minExit;
  let most = 0;
  for (const exit of each.exitsWithin(deepest)) {
    const utility = utilityOf(each, exit, from, company.with(exit));
    if (utility > most) [best, most] = [exit, utility];
  }
  return best;
}

function utilityOf(each: PlannedRequest, exit: ExitIndex, from: number, stepMs: number): number {
  const { deadlines, sequence } = each;
  const begins = from + each.prefillMs(exit);
  const isFirstLate = sequence.firstTokenAt === null && begins + stepMs > deadlines.firstToken;
  if (isFirstLate || stepMs > deadlines.tpotMs) return 0;
  const fitting = (deadlines.end - begins) / stepMs;
  return fitting <= 0 ? 0 : each.utilityAt(exit, fitting);
}

/** How the present requests fare if no other one comes, in the order of the state. */
export function forecast(state: Snapshot, exits: Exits): readonly BatchOutcome[] {
  const { requests, occupancy, costs } = state;
  const entries = requests.map((each): BatchEntry => {
    const entry = each.entry(exits.get(each) ?? each.currentExit);
    return { ...entry, dueAt: each.isReachable ? each.dueAt : Infinity, tokens: Math.max(1, entry.tokens) };
  });
  return forecastBatch(entries, occupancy.slots, costs);
}

/**
 * Milliseconds until a new request of no length has its first token, behind all others and with every prompt at its
 * shallowest exit. It is the load of a server in the unit of budgets, for balancers of several servers. Depth gives way
 * under load, so deeper exits say nothing about the room that is left. 0 on an idle server.
 * @param state with all waiting requests
 */
export function predictedWaitMs({ requests, occupancy, costs }: Snapshot): number {
  if (requests.length === 0) return 0;
  const entries = requests.map((each): BatchEntry => {
    return { ...each.entry(each.isBeginning ? each.minExit : each.currentExit), leavesAt: Infinity };
  });
  const dueAt = Infinity;
  const leavesAt = Infinity;
  const promisedBy = Infinity;
  const last = {
    dueAt,
    leavesAt,
    exit: 0,
    prefillMs: 0,
    chunks: 1,
    tokens: 1,
    guaranteedTokens: 0,
    hasSlot: false,
    promisedBy,
  };
  return forecastBatch([...entries, last], occupancy.slots, costs).at(-1)?.firstTokenAt ?? 0;
}
