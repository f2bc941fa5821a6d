/**
 * The exits of the requests that begin, and the forecast of the batch with them.
 */
import { at } from '../cost/model.js';
import type { ExitCost } from '../cost/step-costs.js';
import { type Played, type Player, play } from './forecast.js';
import type { PlanningState } from './planning-state.js';
import { latePromises } from './promise.js';
import { inService } from './queue.js';
import type { PlannedRequest } from './request.js';

/** Exits (indices) of the requests that begin. */
export type Exits = ReadonlyMap<PlannedRequest, number>;

/**
 * In order of service, each request takes the exit at which its answer is worth most within its budget. One bound for
 * all gets shallower until every promise holds that the shallowest exits keep.
 * @param most deepest exit that the load allows
 */
export function chooseExits(state: PlanningState, most: number): Exits {
  for (let deepest = most; ; deepest -= 1) {
    const exits = exitsWithin(state, deepest);
    // A lone request begins no shallower for a promise than without one.
    if (deepest === 0 || state.requests.length < 2 || !breaksPromise(state, exits)) return exits;
  }
}

function breaksPromise(state: PlanningState, exits: Exits): boolean {
  const late = latePromises(state, 1, exits);
  if (late.size === 0) return false;
  const unavoidable = latePromises(state, 1);
  return [...late].some((each) => !unavoidable.has(each));
}

function exitsWithin(state: PlanningState, deepest: number): Exits {
  const company = new Company(state.costs);
  const exits = new Map<PlannedRequest, number>();
  for (const each of state.requests) if (each.live !== null && !each.isPrefilling) company.add(each.currentExit);
  let waitMs = 0;
  for (const each of inService(state.requests)) {
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

/** The rows that share the steps of a request. */
class Company {
  #fixedMs = 0;
  #rowsMs = 0;

  constructor(readonly costs: readonly ExitCost[]) {}

  add(exit: number): void {
    const { fixedMs, rowMs } = at(this.costs, exit);
    this.#fixedMs = Math.max(this.#fixedMs, fixedMs);
    this.#rowsMs += rowMs;
  }

  /** Milliseconds of a step with one more row at an exit. */
  stepWith(exit: number): number {
    const { fixedMs, rowMs } = at(this.costs, exit);
    return Math.max(this.#fixedMs, fixedMs) + this.#rowsMs + rowMs;
  }
}

/** The deepest exit of the most worth; the shallowest where none is in time. @param from when its prompt begins */
function bestExit(each: PlannedRequest, deepest: number, from: number, company: Company): number {
  if (!each.hasDeadline) return each.maxExit;
  let [best, most] = [each.minExit, 0];
  for (let exit = Math.max(each.minExit, Math.min(each.maxExit, deepest)); exit >= each.minExit; exit -= 1) {
    const worth = worthOf(each, exit, from, company.stepWith(exit));
    if (worth > most) [best, most] = [exit, worth];
  }
  return best;
}

function worthOf(each: PlannedRequest, exit: number, from: number, stepMs: number): number {
  const { deadlines, request } = each;
  const begins = from + each.setupMs(exit);
  const isFirstLate = request.firstTokenAt === null && begins + stepMs > deadlines.firstToken;
  if (isFirstLate || stepMs > deadlines.tpotMs) return 0;
  const fitting = (deadlines.end - begins) / stepMs;
  return fitting <= 0 ? 0 : each.right(exit) * each.worthAt(exit, fitting);
}

/** How the present requests fare if no other one comes. */
export function forecast(state: PlanningState, exits: Exits): ReadonlyMap<PlannedRequest, Played> {
  const { requests, engine, costs, now } = state;
  const players = requests.map((each): Player => {
    const { request, live, deadlines } = each;
    const exit = exits.get(each) ?? each.currentExit;
    return {
      dueAt: each.isReachable ? each.dueAt : Infinity,
      leavesAt: request.lands ? deadlines.end - now : Infinity,
      exit,
      setupMs: each.setupMs(exit),
      chunks: each.chunks(exit),
      tokens: Math.max(1, each.meanLeft(exit)),
      hasSlot: live !== null,
    };
  });
  const plays = play(players, engine.slots, costs);
  return new Map(requests.map((each, i) => [each, at(plays, i)]));
}
