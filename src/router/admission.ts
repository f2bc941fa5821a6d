/**
 * Admission control: the service class and the exit of new requests, or the least budget that would be guaranteed.
 *
 * Headroom is the time until a request's deadline over all work due by then, with every request at its floor. At 1 or
 * more the request fits.
 */
import { at } from '../cost/model.js';
import { tokenMs } from '../cost/step-costs.js';
import { type Allocation, allocateDepth } from './depth.js';
import { type Offsets, predictedMs } from './estimators/latency.js';
import { type SafetyMargin, marginAt, safetyFactor } from './estimators/safety-margin.js';
import type { Arrivals } from './estimators/arrivals.js';
import { Feasibility } from './feasibility.js';
import { PlanningState } from './planning-state.js';
import { plannedChunk } from './policy.js';
import { order } from './queue.js';
import { type PlannedRequest, type Planning, hasBudget, lengthsOf } from './request.js';
import type { Admission, EngineState, Forecast, Prediction, Rejected, RequestView, ServiceClass } from './types.js';

/** The estimates that admission goes by. */
export interface Learned extends Planning {
  readonly arrivals: Arrivals;
  readonly margin: SafetyMargin;
  /** Offsets of the 10% and 90% bounds. */
  readonly offsets: (isExactLength: boolean) => Offsets;
}

/** Headroom of a budget with its likely length, and with the length that its guarantee covers. */
interface Headroom {
  readonly likely: number;
  readonly guaranteed: number;
}

/**
 * Admits what arrived since the last step. Reservations are made one after the other; exits and predictions know of all
 * that are admitted, so the first of a burst is not predicted as if it were alone.
 * @param engine without them
 * @returns by request
 */
export function admitAll(arrived: readonly RequestView[], engine: EngineState, learned: Learned): Admission[] {
  const stateWith = (requests: readonly RequestView[]): PlanningState => {
    const all = { ...engine, waiting: [...engine.waiting, ...requests] };
    return new PlanningState({ ...all, waiting: order(all, learned).requests }, learned, Infinity);
  };
  const taken: RequestView[] = [];
  const decisions = new Map<string, Rejected | Headroom>();
  let { arrivals } = learned;
  let latest: PlanningState | null = null;
  for (const request of arrived) {
    const counted = withArrival(arrivals, request, learned, engine.now);
    const state = stateWith([...taken, { ...request, serviceClass: 'guaranteed' }]);
    const headroom = headroomOf(state, request.id, counted);
    const careful = 1 + marginAt(learned.margin, engine.now);
    if (request.budget?.onMiss === 'reject' && headroom.guaranteed < careful) {
      const leastFeasibleMs = leastFeasible(state, request, counted, learned);
      const isEnough = (minExit: number): boolean => {
        const changed = stateWith([...taken, { ...request, minExit, serviceClass: 'guaranteed' }]);
        return headroomOf(changed, request.id, counted).guaranteed >= careful;
      };
      decisions.set(request.id, { kind: 'reject', leastFeasibleMs, bestExit: bestBelow(request, learned, isEnough) });
      continue;
    }
    taken.push({ ...request, serviceClass: headroom.likely >= 1 ? 'guaranteed' : 'best_effort' });
    decisions.set(request.id, headroom);
    latest = headroom.likely >= 1 ? state : null;
    arrivals = counted;
  }
  const allocation = allocateDepth(latest ?? stateWith(taken), learned.arrivals);
  return arrived.map(({ id }) => {
    const decision = decisions.get(id);
    if (decision === undefined) throw new Error(`request ${id} has no decision`);
    return 'kind' in decision ? decision : admitted(allocation, find(allocation.state, id), decision, learned);
  });
}

/** The deepest exit below the floor of quality with enough headroom, or null. */
function bestBelow(
  { minExit, openExit = minExit }: RequestView,
  { model }: Learned,
  isEnough: (minExit: number) => boolean,
): number | null {
  const below = model.shape.exits.map(({ layer }) => layer).filter((layer) => layer >= openExit && layer < minExit);
  return below.reverse().find(isEnough) ?? null;
}

/** The arrival estimate with one more request. */
export function withArrival(arrivals: Arrivals, request: RequestView, { lengths }: Planning, now: number): Arrivals {
  const { maxTokens, budget, promptLength, expectedFrontier } = request;
  const tokens = lengthsOf(request, lengths)[0]?.meanLeft(0, maxTokens) ?? maxTokens;
  return arrivals.with(now, promptLength - (expectedFrontier[0] ?? 0), tokens, budget);
}

/** @throws Error where the request is not in the state */
function find({ requests }: PlanningState, id: string): PlannedRequest {
  const found = requests.find(({ request }) => request.id === id);
  if (found === undefined) throw new Error(`request ${id} must be among the waiting`);
  return found;
}

/** Demand of the requests that capacity is held for. @param without a request that does not count */
function heldDemand(state: PlanningState, arrivals: Arrivals, without?: PlannedRequest): Feasibility {
  return new Feasibility(state, arrivals, (each) => each !== without && each.request.serviceClass !== 'best_effort');
}

function headroomOf(state: PlanningState, id: string, arrivals: Arrivals): Headroom {
  const self = find(state, id);
  if (!self.hasDeadline) return { likely: Infinity, guaranteed: Infinity };
  const held = heldDemand(state, arrivals);
  // A new request takes no capacity that an older one holds.
  const before = held.dropped.size === 0 ? held : heldDemand(state, arrivals, self);
  if ([...held.dropped].some((each) => each === self || ![...before.dropped].includes(each))) {
    return { likely: 0, guaranteed: 0 };
  }
  const [likely, guaranteed] = held.headrooms(self, coveredMs(state, held, self));
  return { likely, guaranteed };
}

/** Time at its floor beyond its counted steps that the guarantee covers, ms. */
function coveredMs(state: PlanningState, held: Feasibility, self: PlannedRequest): number {
  if (self.deadlines.end === Infinity) return 0;
  const exit = held.exitOf(self);
  return (
    Math.max(0, self.stepsLeft(exit, state.policy.guarantee) - held.stepsOf(self)) * tokenMs(at(state.costs, exit), 1)
  );
}

/** Accuracy of the least feasible budget, and how many tests it may take, fewer where many requests are present. */
const ACCURACY = 0.05;
const TRIES = 10;
const MANY_REQUESTS = 64;

/**
 * The least total budget that would be guaranteed now, from arrival: found between none and what serves the request after
 * all others.
 * @returns null where none was found: arrivals may leave room for none
 */
function leastFeasible(
  state: PlanningState,
  { id, arrivedAt }: RequestView,
  arrivals: Arrivals,
  { margin }: Learned,
): number | null {
  const { now, engine, policy } = state;
  const careful = 1 + marginAt(margin, now);
  const stateAt = (ms: number): PlanningState => {
    const totalMs = now + ms - arrivedAt + policy.requestOverheadMs;
    const budget = { totalMs, ttftMs: null, tpotMs: null, onMiss: 'reject' } as const;
    const waiting = engine.waiting.map((each) => (each.id === id ? { ...each, budget } : each));
    return new PlanningState({ ...engine, waiting }, state, Infinity);
  };
  const isEnough = (ms: number): boolean => headroomOf(stateAt(ms), id, arrivals).guaranteed >= careful;
  const last = stateAt(Number.MAX_VALUE);
  const held = heldDemand(last, arrivals);
  const self = find(last, id);
  let most = (held.demandOf(self) + coveredMs(last, held, self)) * state.inflation * careful;
  let least = 0;
  let tries = state.requests.length > MANY_REQUESTS ? 2 : TRIES;
  while (!isEnough(most)) {
    tries -= 1;
    if (tries === 0) return null;
    least = most;
    most *= 1.5;
  }
  for (; tries > 0 && most - least > ACCURACY * most; tries -= 1) {
    const between = (least + most) / 2;
    if (isEnough(between)) most = between;
    else least = between;
  }
  return Math.ceil(now + most - arrivedAt + policy.requestOverheadMs);
}

/** The answer to a request that is admitted. */
function admitted(allocation: Allocation, self: PlannedRequest, headroom: Headroom, learned: Learned): Admission {
  const { state, feasibility } = allocation;
  const { budget, generated, isExactLength } = self.request;
  const exit = feasibility.exitOf(self);
  const forecast = forecastOf(allocation, self, exit, self.stepsLeft(exit, 0.5), learned);
  // Depth gives way where time gets short, so the guarantee goes by what the answer takes at its floor.
  const floorMs = (): number => {
    const covered = self.stepsLeft(self.floor, state.policy.guarantee);
    return predictedMs(forecastOf(allocation, self, self.floor, covered, learned));
  };
  const serviceClass = serviceClassOf(budget, headroom, floorMs, learned, state.now);
  return {
    kind: 'admit',
    exit: at(state.model.shape.exits, exit).layer,
    reason: exit === self.maxExit ? 'deepest' : 'load',
    serviceClass,
    prediction: predictionOf(state, self, exit, forecast, serviceClass, learned.offsets(isExactLength)),
    expectedTokens: generated + self.stepsLeft(exit, 0.5),
    expectedTokensP90: generated + self.stepsLeft(exit, 0.9),
    headroom: headroom.likely,
    probability: budget?.totalMs == null ? null : self.pathProbability(exit, feasibility.slackOf(self)),
    forecast,
  };
}

/** A budget is guaranteed by its headroom, and where it is served in any case by the prediction at its floor as well. */
function serviceClassOf(
  budget: RequestView['budget'],
  { likely, guaranteed }: Headroom,
  floorMs: () => number,
  { margin }: Learned,
  now: number,
): ServiceClass {
  if (!hasBudget(budget)) return 'none';
  if (budget.onMiss === 'reject') return 'guaranteed';
  if (likely < 1) return 'best_effort';
  if (budget.totalMs === null) return guaranteed >= 1 + marginAt(margin, now) ? 'guaranteed' : 'reserved';
  return guaranteed >= 1 && budget.totalMs >= floorMs() * safetyFactor(margin, now) ? 'guaranteed' : 'reserved';
}

/**
 * The forecast of the batch with every request at its exit, and what tells how far to trust it. While others decode, the
 * observed TPOT counts as much as the forecast: it holds what arrivals do.
 */
function forecastOf(
  { state, feasibility }: Allocation,
  self: PlannedRequest,
  exit: number,
  steps: number,
  { arrivals }: Learned,
): Forecast {
  const { model, policy, requests, now } = state;
  const { slots, live } = state.engine;
  const chunk = plannedChunk(policy);
  let [prefillBefore, prefillAfter, chunksBefore, ahead, stepsLive] = [0, 0, 0, 0, 0];
  const exitOf = (each: PlannedRequest): number => (each === self ? exit : feasibility.exitOf(each));
  for (const each of requests) {
    const own = exitOf(each);
    const isLater = each !== self && each.dueAt > self.dueAt;
    if (each.live !== null) stepsLive += each.meanSteps(own);
    else if (each !== self && !isLater) ahead += 1;
    if (!each.isPrefilling) continue;
    if (isLater) prefillAfter += each.setupMs(own);
    else {
      prefillBefore += each.setupMs(own);
      chunksBefore += Math.max(1, Math.ceil(each.remainingPrefill(own, each.request.expectedFrontier) / chunk));
    }
  }
  const stepMs = state.stepOf(requests.filter((each, i) => each === self || i < slots).map(exitOf));
  const turns = Math.max(0, ahead + 1 - (slots - live.length)) / slots;
  const slotMs = (turns * stepsLive * stepMs) / Math.max(1, live.length);
  const first = now + slotMs + prefillBefore + chunksBefore * stepMs;
  const { tpotMs } = model.drift;
  const later = Math.max(0, steps - 1);
  const end = first + later * stepMs + Math.min(prefillAfter, later * stepMs);
  const paced = first + later * tpotMs;
  const from = self.request.arrivedAt - policy.requestOverheadMs;
  const totalMs = (tpotMs === 0 || live.length === 0 ? end : (end + paced) / 2) - from;
  return {
    totalMs,
    ttftMs: first - from,
    budgetMs: self.request.budget?.totalMs ?? Infinity,
    arrivals: arrivals.within(now, totalMs).requests / requests.length,
  };
}

/** A guaranteed answer is predicted within its budget, since depth gives way; one that is cut ends at its deadline. */
function predictionOf(
  state: PlanningState,
  self: PlannedRequest,
  exit: number,
  forecast: Forecast,
  serviceClass: ServiceClass,
  { low, high }: Offsets,
): Prediction {
  const { budget } = self.request;
  const isBounded = serviceClass === 'guaranteed' || budget?.onMiss === 'truncate';
  // An answer never takes less than it would alone at its floor.
  const leastMs = state.now - self.request.arrivedAt + self.aloneMs(self.floor) + state.policy.requestOverheadMs;
  const median = Math.max(leastMs, predictedMs(forecast));
  const totalMs = Math.min(median, (isBounded ? budget?.totalMs : null) ?? Infinity);
  const steps = (share: number): number => Math.max(0, self.stepsLeft(exit, share) - 1);
  const leastStepMs = self.request.maxTokens > 1 ? self.stepMs(self.floor) : 0;
  const perStep = Math.max(leastStepMs, (median * (1 - forecast.ttftMs / forecast.totalMs)) / Math.max(1, steps(0.5)));
  const part = (ms: number | null | undefined): number => (serviceClass === 'guaranteed' ? (ms ?? Infinity) : Infinity);
  const ttftMs = Math.min(Math.max(0, median - perStep * steps(0.5)), totalMs, part(budget?.ttftMs));
  const evenly = Math.max(leastStepMs, (totalMs - ttftMs) / Math.max(1, steps(0.5)));
  const tpotMs = Math.min(budget?.onMiss === 'truncate' ? perStep : evenly, part(budget?.tpotMs));
  return {
    ttftMs,
    tpotMs,
    totalMs,
    p10Ms: Math.min(totalMs, (ttftMs + steps(0.1) * perStep) * Math.exp(low)),
    p90Ms: Math.max(totalMs, (ttftMs + steps(0.9) * perStep) * Math.exp(high)),
  };
}
