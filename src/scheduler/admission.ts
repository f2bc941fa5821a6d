/**
 * Admission control: the exit, the service class and the prediction of new requests, or the least budget that would be
 * guaranteed.
 */
import { type ExitIndex, at } from '../cost/model.js';
import type { Played } from './forecast.js';
import { type Arrival, deepestUnder, expectedAt } from './depth-bound.js';
import { chooseExits, forecast } from './exit-choice.js';
import { type SafetyMargin, latePromises, marginAt } from './promise.js';
import { cutAt, hasBudget } from '../protocol/early-end.js';
import type { PlannedRequest, Planning } from './planned-request.js';
import { PlanningState } from './snapshot.js';
import type { Admission, DepthReason, EngineState, ExitLayer, RequestView } from './types.js';

/** The estimates that admission goes by. */
export interface Learned extends Planning {
  readonly arrivals: readonly Arrival[];
  readonly margin: SafetyMargin;
  /** Rejected requests whose named budgets are held for their retries, and the ids of the retries that came. */
  readonly reserved: readonly RequestView[];
  readonly claimed: ReadonlySet<string>;
}

type Decision =
  | { readonly kind: 'reject'; readonly leastFeasibleMs: number | null; readonly bestExit: ExitLayer | null }
  | { readonly kind: 'admit'; readonly isPromised: boolean };

/** Whether the promises to some requests hold, if they change so. @param kvPositions of the KV cache, at most */
type Fits = (change: Partial<RequestView>, kvPositions?: number) => boolean;

/**
 * Admits what arrived since the last step. Promises are made one after the other; exits and predictions know of all that
 * are admitted, so the first of a burst is not predicted as if it were alone.
 * @param groups by decidedTogether
 * @param engine without them
 * @returns by request
 */
export function admitAll(
  groups: readonly (readonly RequestView[])[],
  engine: EngineState,
  learned: Learned,
): Admission[] {
  const { now } = engine;
  const careful = 1 + marginAt(learned.margin, now, learned.policy);
  const taken: RequestView[] = [];
  const stateWith = (more: readonly RequestView[], kvPositions = engine.kvPositions): PlanningState =>
    new PlanningState({ ...engine, kvPositions, waiting: [...engine.waiting, ...taken, ...more] }, learned, Infinity);
  const promised = (requests: readonly RequestView[], factor = careful): Fits => {
    const ids = requests.map(({ id }) => id);
    return (change, kvPositions) => {
      const asked = requests.map((each) => ({ ...each, ...change, serviceClass: 'guaranteed' as const }));
      return isHeld(stateWith([...learned.reserved, ...asked], kvPositions), ids, factor);
    };
  };
  const decide = (choices: readonly RequestView[]): Decision => {
    const [request] = choices;
    if (request === undefined) throw new RangeError('a request must have a choice');
    const fits = promised(choices);
    const isPromised = learned.claimed.has(request.id) || (hasBudget(request.budget) && fits({}));
    if (isPromised || request.budget?.onMiss !== 'reject') {
      const serviceClass = isPromised ? 'guaranteed' : 'best_effort';
      taken.push(...choices.map((each) => ({ ...each, serviceClass }) as const));
      return { kind: 'admit', isPromised };
    }
    const state = stateWith(learned.reserved);
    const leastFeasibleMs =
      leastFeasible(request, state, promised(choices, careful * surgeOf(learned))) ??
      leastFeasible(request, state, fits);
    return { kind: 'reject', leastFeasibleMs, bestExit: bestBelow(request, learned, fits) };
  };
  const decisions = groups.flatMap((choices) => {
    const decision = decide(choices);
    return choices.map(() => decision);
  });
  const state = stateWith([]);
  const exits = chooseExits(state, deepestUnder(state, expectedAt(learned.arrivals, now, learned.policy)));
  const played = forecast(state, exits);
  return groups.flat().map(({ id }, i) => {
    const decision = at(decisions, i);
    if (decision.kind === 'reject') return decision;
    const index = state.requests.findIndex(({ request }) => request.id === id);
    const self = at(state.requests, index);
    return admitted(state, self, exits.get(self) ?? self.currentExit, decision.isPromised, at(played, index));
  });
}

/** How many times slower than the learned pace the slowest of the last steps was: the pace may get there. */
function surgeOf({ model: { drift } }: Learned): number {
  return Math.max(1, ...drift.ratios.map((ratio) => ratio / drift.slowdown));
}

/** Requests by themselves, and the choices of one that may be rejected together: a rejection of one rejects all. */
export function decidedTogether(arrived: readonly RequestView[]): readonly (readonly RequestView[])[] {
  const groups: RequestView[][] = [];
  for (const request of arrived) {
    const last = groups.at(-1);
    const [first] = last ?? [];
    if (first !== undefined && isSibling(first, request)) last?.push(request);
    else groups.push([request]);
  }
  return groups;
}

function isSibling(a: RequestView, b: RequestView): boolean {
  const mayReject = a.budget?.onMiss === 'reject' && b.budget?.onMiss === 'reject';
  return mayReject && a.arrivedAt === b.arrivedAt && a.budget.totalMs === b.budget.totalMs;
}

/** Whether the promises to these requests hold, make no older promise late, and leave other keys their share. */
function isHeld(state: PlanningState, asked: readonly string[], careful: number): boolean {
  // A budget that is over has no promise to be late for.
  if (state.requests.some((each) => asked.includes(each.request.id) && !each.isPromised)) return false;
  if (!areAllKept(state, asked, careful)) return false;
  const share = shareOf(state, asked);
  return share === null || areAllKept(share.state, asked, careful * share.keys);
}

function areAllKept(state: PlanningState, asked: readonly string[], careful: number): boolean {
  const late = latePromises(state, careful);
  if (late.size === 0) return true;
  if ([...late.keys()].some(({ request }) => asked.includes(request.id))) return false;
  // At the same costs: one more context in their mean makes no promise late.
  const wasLate = latePromises(state, careful, new Map(), false, asked);
  return [...late.keys()].every((each) => wasLate.has(each));
}

/**
 * The machine as a key's promises may count on it while other keys have requests without a promise: each key has an equal
 * share of time, slots and memory. One promise of a key is free, since no share may be too small for any.
 * @returns null for the whole machine
 */
function shareOf(state: PlanningState, asked: readonly string[]): { state: PlanningState; keys: number } | null {
  const { engine, requests } = state;
  const tenant = requests.find(({ request }) => asked.includes(request.id))?.request.tenant;
  const isOwn = (each: RequestView): boolean => each.tenant === tenant;
  const isFirst = !requests.some((each) => each.isPromised && isOwn(each.request) && !asked.includes(each.request.id));
  const rivals = requests.filter((each) => !each.isPromised && !isOwn(each.request));
  const keys = 1 + new Set(rivals.map(({ request }) => request.tenant)).size;
  if (keys === 1 || isFirst) return null;
  const own = {
    ...engine,
    slots: Math.max(1, Math.floor(engine.slots / keys)),
    kvPositions: engine.kvPositions / keys,
    live: engine.live.filter(isOwn),
    waiting: engine.waiting.filter(isOwn),
  };
  return { state: new PlanningState(own, state, Infinity), keys };
}

/** The deepest exit below the floor of quality whose promise would hold, or null. */
function bestBelow({ minExit, openExit = minExit }: RequestView, { model }: Learned, fits: Fits): ExitLayer | null {
  const below = model.shape.exits.map(({ layer }) => layer).filter((layer) => layer >= openExit && layer < minExit);
  return below.reverse().find((exit) => fits({ minExit: exit })) ?? null;
}

/**
 * The least total budget, from arrival, whose promise would hold, with room for a retry.
 *
 * A longer budget makes its time easier to keep, and its memory harder: an answer that lands takes the positions that its
 * budget has time for. So the least budget in time is found by doubling and bisection, and none exists where the KV cache
 * does not hold that one.
 */
function leastFeasible({ arrivedAt }: RequestView, state: PlanningState, fits: Fits): number | null {
  const { now, policy } = state;
  const holds = (totalMs: number, kvPositions?: number): boolean =>
    fits({ budget: { totalMs, ttftMs: null, tpotMs: null, onMiss: 'reject' } }, kvPositions);
  let least = now - arrivedAt;
  let most = Math.max(64, 2 * least);
  while (!holds(most, Infinity)) {
    least = most;
    most *= 2;
    if (most > policy.longestBudgetMs) return null;
  }
  // A budget that memory does not hold is found to the millisecond.
  while (most - least > policy.leastAccuracy * most || (most - least > 1 && !holds(Math.ceil(most)))) {
    const between = (least + most) / 2;
    if (holds(between, Infinity)) most = between;
    else least = between;
  }
  // A retry waits for the step that begins as its rejection leaves. Then it is due later, with less time.
  const waitMs = now - arrivedAt + nextStepMs(state) + policy.requestOverheadMs;
  for (let named = most * (1 + policy.retryRoom) + waitMs, i = 0; i < policy.retrySearch; named *= 1.25, i += 1) {
    const totalMs = Math.ceil(named);
    if (holds(totalMs) && holds(totalMs - waitMs) && holds(totalMs + waitMs)) return totalMs;
  }
  return [1 + policy.leastAccuracy, 1].map((room) => Math.ceil(most * room)).find((totalMs) => holds(totalMs)) ?? null;
}

/** Milliseconds of the step that begins, about. */
function nextStepMs({ requests, policy, batchStepMs }: PlanningState): number {
  let setupMs = 0;
  for (const each of requests) if (each.isPrefilling) setupMs += each.setupMs(each.currentExit);
  return batchStepMs + Math.min(policy.maxStallMs, setupMs);
}

/** The answer to a request that is admitted: its times by the play, its lengths by the estimate, within its budget. */
function admitted(
  state: PlanningState,
  self: PlannedRequest,
  exit: ExitIndex,
  isPromised: boolean,
  played: Played,
): Admission {
  const { now, policy, sentenceTokens } = state;
  const { request, deadlines } = self;
  const { budget, generated } = request;
  const from = request.arrivedAt - policy.requestOverheadMs;
  const { firstTokenAt: firstAt, endsAt } = played;
  const isRun = endsAt < Infinity && firstAt < Infinity;
  const tpotMs = isRun && played.tokens > 1 ? (endsAt - firstAt) / (played.tokens - 1) : self.stepMs(exit);
  const ttftMs = now + (firstAt < Infinity ? firstAt : self.setupMs(exit)) - from;
  const steps = (deadlines.end - from - ttftMs) / Math.max(1e-3, tpotMs);
  const isCut = cutAt(request) < Infinity;
  const tokens = (share: number): number => {
    const whole = self.stepsLeft(exit, share);
    return isCut ? Math.min(whole, Math.max(1, Math.floor(steps))) : whole;
  };
  const totalMs = (share: number): number => {
    const ms = ttftMs + Math.max(0, tokens(share) - 1) * tpotMs;
    return isCut ? Math.min(ms, budget?.totalMs ?? Infinity) : ms;
  };
  const landsInTime = 1 - 0.1 ** (Math.max(0, steps) / sentenceTokens);
  const probability = request.lands ? landsInTime : self.probabilityWithin(exit, steps);
  return {
    kind: 'admit',
    exit: at(state.model.shape.exits, exit).layer,
    reason: reasonOf(state, self, exit),
    serviceClass: !hasBudget(budget) ? 'none' : isPromised ? 'guaranteed' : 'best_effort',
    predictedTtftMs: ttftMs,
    predictedTpotMs: tpotMs,
    predictedMs: totalMs(0.5),
    predictedP10Ms: totalMs(0.1),
    predictedP90Ms: totalMs(0.9),
    expectedTokens: generated + tokens(0.5),
    expectedTokensP90: generated + tokens(0.9),
    probability: budget?.totalMs == null ? null : probability,
  };
}

/** Why a request has an exit: the first cause that alone explains it. */
function reasonOf(state: PlanningState, self: PlannedRequest, exit: ExitIndex): DepthReason {
  if (exit === self.maxExit) return 'deepest';
  const { model, engine } = state;
  const alone = (planning: Planning): ExitIndex => {
    const only = new PlanningState({ ...engine, live: [], waiting: [self.request] }, planning);
    return chooseExits(only, only.costs.length - 1).get(at(only.requests, 0)) ?? exit;
  };
  if (alone(state) > exit) return 'load';
  const calm = { ...model, drift: { ...model.drift, slowdown: Math.min(1, model.drift.slowdown) } };
  return alone({ model: calm, policy: state.policy, lengths: state.lengths, worth: state.worth }) > exit
    ? 'noise'
    : 'budget';
}
