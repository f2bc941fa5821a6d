/**
 * Admission control: the service class and the exit of new requests, or the least budget that would be guaranteed.
 *
 * Headroom is the time until a request's deadline over all work due by then, with every request at its floor. At 1 or
 * more the request fits.
 */
import { promptMs, tokenMs } from '../cost/step-costs.js';
import { DepthAllocation } from './depth.js';
import { type LatencyModel, type Offsets, predictedMs } from './estimators/latency.js';
import { type SafetyMargin, marginAt, safetyFactor } from './estimators/safety-margin.js';
import { type Expected, Feasibility } from './feasibility.js';
import { type Planning, PlanningState } from './planning-state.js';
import { plannedChunk } from './policy.js';
import { order } from './queue.js';
import { aloneMs, hasBudget, remainingPrefill, stepsLeft } from './request.js';
import type { Admission, EngineState, LatencyFeatures, Prediction, RequestView, ServiceClass } from './types.js';

/** What the router has learnt that admission goes by. */
export interface Learned extends Planning {
  readonly expected: Expected;
  readonly margin: SafetyMargin;
  readonly total: LatencyModel;
  readonly ttft: LatencyModel;
  /** Offsets of the 10% and 90% bounds. */
  readonly offsets: (isExactLength: boolean) => Offsets;
}

/** A new request in the state, as if it were guaranteed. */
interface Tried {
  readonly state: PlanningState;
  readonly self: number;
}

/** Headroom of a budget with its mean length, and with the length that its guarantee covers. */
interface Headroom {
  readonly mean: number;
  readonly guaranteed: number;
}

/**
 * Admits what arrived since the last step. Reservations are made one after the other; exits and predictions know of all
 * that are admitted, so the first of a burst is not predicted as if it were alone.
 * @param state without them
 * @returns by request
 */
export function admitAll(arrived: readonly RequestView[], state: EngineState, learned: Learned): Admission[] {
  const stateWith = (requests: readonly RequestView[]): PlanningState => {
    const all = { ...state, waiting: [...state.waiting, ...requests] };
    return new PlanningState({ ...all, waiting: order(all, learned).requests }, learned, all.waiting.length);
  };
  const taken: RequestView[] = [];
  const decisions: (Admission | (Headroom & { readonly id: string }))[] = [];
  let { expected } = learned;
  let last: PlanningState | null = null;
  for (const request of arrived) {
    const counted = { ...expected, arrivals: withArrival(expected, request, learned, state.now) };
    last = stateWith([...taken, { ...request, serviceClass: 'guaranteed' }]);
    const tried = { state: last, self: indexOf(last, request.id) };
    const headroom = headroomOf(tried, counted);
    if (request.budget?.onMiss === 'reject' && headroom.guaranteed < 1 + marginAt(learned.margin, state.now)) {
      decisions.push({ kind: 'reject', leastFeasibleMs: leastFeasibleMs(tried, counted, learned) });
      continue;
    }
    taken.push({ ...request, serviceClass: headroom.mean >= 1 ? 'guaranteed' : 'best_effort' });
    decisions.push({ ...headroom, id: request.id });
    expected = counted;
  }
  if (taken.length === 0) return decisions.filter((each): each is Admission => 'kind' in each);
  // A state holds its request as if it were guaranteed. Of one request alone that decides nothing more.
  const all = last !== null && arrived.length === 1 ? last : stateWith(taken);
  const allocation = new DepthAllocation(all, learned.expected);
  allocation.keep();
  allocation.begin();
  const classes = new Map(taken.map(({ id, serviceClass }) => [id, serviceClass]));
  const exits = all.requests.map(({ request, currentExit }, i) => {
    const serviceClass = classes.get(request.id);
    if (serviceClass === undefined) return currentExit;
    return serviceClass === 'best_effort' && request.budget !== null ? all.floor(i) : (allocation.exits[i] ?? 0);
  });
  return decisions.map((each) => {
    if ('kind' in each) return each;
    return admitted({ state: all, self: indexOf(all, each.id) }, allocation, exits, each, learned);
  });
}

/** The arrival estimate with one more request. */
export function withArrival(
  { arrivals }: Expected,
  request: RequestView,
  { lengths }: Planning,
  now: number,
): Expected['arrivals'] {
  const positions = request.promptLength - (request.expectedFrontier[0] ?? 0);
  const { maxTokens, budget } = request;
  const shallowest = request.isExactLength ? undefined : lengths.of(request.lengthGroup, budget?.totalMs ?? null)[0];
  return arrivals.with(now, positions, shallowest?.meanLeft(0, maxTokens) ?? maxTokens, budget);
}

/** @throws Error where the request is not in the state */
function indexOf({ requests }: PlanningState, id: string): number {
  const index = requests.findIndex(({ request }) => request.id === id);
  if (index < 0) throw new Error(`request ${id} must be among the waiting`);
  return index;
}

/** Demand of the requests that capacity is held for. @param without a request that does not count */
function heldDemand(state: PlanningState, expected: Expected, without?: number): Feasibility {
  return new Feasibility(state, expected, (i) => i !== without && state.at(i).request.serviceClass !== 'best_effort');
}

function headroomOf({ state, self }: Tried, expected: Expected): Headroom {
  const none = { mean: 0, guaranteed: 0 };
  if (!state.at(self).hasDeadline) return { mean: Infinity, guaranteed: Infinity };
  const held = heldDemand(state, expected);
  if (held.dropped.has(self)) return none;
  // A new request takes no capacity that an older one holds.
  if (held.dropped.size > 0) {
    const { dropped } = heldDemand(state, expected, self);
    if ([...held.dropped].some((i) => !dropped.has(i))) return none;
  }
  const { guarantee } = state.policy;
  const beyond = [coveredMs(state, held, self, 0.5), coveredMs(state, held, self, guarantee)];
  const [mean = 0, guaranteed = 0] = held.headrooms(self, blockingMs(state), beyond);
  return { mean, guaranteed };
}

/** Time at its floor beyond its counted steps that a share of such answers stays within, ms. */
function coveredMs(state: PlanningState, held: Feasibility, self: number, share: number): number {
  const planned = state.at(self);
  if (planned.deadlines.end === Infinity) return 0;
  const exit = held.exitOf(self);
  return Math.max(0, stepsLeft(planned, exit, share) - held.stepsOf(self)) * tokenMs(state.cost, exit, 1);
}

/** A step of other requests that may have begun: the shortest one with a chunk of a prompt. */
function blockingMs({ requests, model, policy, state, step, exits }: PlanningState): number {
  if (requests.length < 2) return 0;
  const [chunk = 1] = policy.chunks;
  const rows = new Int32Array(exits);
  rows[0] = Math.min(requests.length, state.slots);
  return step(rows) + promptMs(model, exits - 1, chunk, chunk);
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
function leastFeasibleMs({ state, self }: Tried, expected: Expected, { margin }: Learned): number | null {
  const { now } = state.state;
  const careful = 1 + marginAt(margin, now);
  const isEnough = (ms: number): boolean =>
    headroomOf({ state: state.withBudget(self, ms), self }, expected).guaranteed >= careful;
  const last = state.withBudget(self, Number.MAX_VALUE);
  const held = heldDemand(last, expected);
  const workMs = held.demandOf(self) + coveredMs(last, held, self, state.policy.guarantee);
  let most = (workMs * state.inflation + blockingMs(state)) * careful;
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
  return Math.ceil(now + most - state.at(self).request.arrivedAt + state.policy.requestOverheadMs);
}

/** The answer to a request that is admitted. */
function admitted(
  tried: Tried,
  { feasibility }: DepthAllocation,
  exits: readonly number[],
  headroom: Headroom,
  learned: Learned,
): Admission {
  const { state, self } = tried;
  const planned = state.at(self);
  const { budget, generated, isExactLength, maxExit } = planned.request;
  const exit = exits[self] ?? planned.maxExit;
  const floor = state.floor(self);
  const features = featuresOf(tried, exits, exit, stepsLeft(planned, exit, 0.5), learned);
  // Depth gives way where time gets short, so the guarantee goes by what the answer takes at its floor.
  const floorMs = (): number => {
    const covered = stepsLeft(planned, floor, state.policy.guarantee);
    return predictedMs(learned.total, featuresOf(tried, exits, floor, covered, learned).total);
  };
  const serviceClass = serviceClassOf(planned.request, headroom, floorMs, learned, state.state.now);
  return {
    kind: 'admit',
    exit: state.model.shape.exits[exit]?.layer ?? maxExit,
    serviceClass,
    prediction: predictionOf(tried, exit, features, serviceClass, learned, learned.offsets(isExactLength)),
    expectedTokens: generated + stepsLeft(planned, exit, 0.5),
    expectedTokensP90: generated + stepsLeft(planned, exit, 0.9),
    headroom: headroom.mean,
    probability: budget?.totalMs == null ? null : state.pathProbability(self, exit, feasibility.slackOf(self)),
    features,
  };
}

/** A budget is guaranteed by its headroom, and where it is served in any case by the prediction at its floor as well. */
function serviceClassOf(
  { budget }: RequestView,
  headroom: Headroom,
  floorMs: () => number,
  { margin }: Learned,
  now: number,
): ServiceClass {
  if (!hasBudget(budget)) return 'none';
  if (budget.onMiss === 'reject') return 'guaranteed';
  if (headroom.mean < 1) return 'best_effort';
  if (headroom.guaranteed < 1 + (budget.totalMs === null ? marginAt(margin, now) : 0)) return 'reserved';
  const isCovered = budget.totalMs === null || budget.totalMs >= floorMs() * safetyFactor(margin, now);
  return isCovered ? 'guaranteed' : 'reserved';
}

/**
 * The forecast of the batch with every request at its exit, and what tells how far to trust it. While others decode, the
 * observed TPOT counts as much as the forecast: it holds what arrivals do.
 */
function featuresOf(
  { state, self }: Tried,
  exits: readonly number[],
  exit: number,
  steps: number,
  { expected }: Learned,
): { readonly total: LatencyFeatures; readonly ttft: LatencyFeatures } {
  const { model, policy, requests } = state;
  const { slots, live, now } = state.state;
  const chunk = plannedChunk(policy);
  const rows = new Int32Array(state.exits);
  let [prefillBefore, prefillAfter, chunksBefore, ahead, stepsLive] = [0, 0, 0, 0, 0];
  requests.forEach((each, i) => {
    const at = i === self ? exit : (exits[i] ?? 0);
    if (each.live !== null) stepsLive += state.meanSteps(i, at);
    else if (i !== self && state.dueAt(i) <= state.dueAt(self)) ahead += 1;
    if (i === self || i < slots) rows[at] = (rows[at] ?? 0) + 1;
    if (!each.isPrefilling) return;
    const ms = state.setupMs(i, at);
    if (i !== self && state.dueAt(i) > state.dueAt(self)) prefillAfter += ms;
    else {
      prefillBefore += ms;
      chunksBefore += Math.max(1, Math.ceil(remainingPrefill(each, at, model, each.request.expectedFrontier) / chunk));
    }
  });
  const stepMs = state.step(rows);
  const turns = Math.max(0, ahead + 1 - (slots - live.length)) / slots;
  const slotMs = (turns * stepsLive * stepMs) / Math.max(1, live.length);
  const first = now + slotMs + prefillBefore + chunksBefore * stepMs;
  const { tpotMs } = model.drift;
  const later = Math.max(0, steps - 1);
  const end = first + later * stepMs + Math.min(prefillAfter, later * stepMs);
  const paced = first + later * tpotMs;
  const planned = state.at(self);
  const overhead = policy.requestOverheadMs - planned.request.arrivedAt;
  const of = (at: number): LatencyFeatures => ({
    forecastMs: at + overhead,
    aloneMs: aloneMs(planned, planned.maxExit, model, policy) + policy.requestOverheadMs,
    budgetMs: planned.request.budget?.totalMs ?? Infinity,
    arrivals: (expected.arrivals.perMs(now) * (at + overhead)) / requests.length,
  });
  return { total: of(tpotMs === 0 || live.length === 0 ? end : (end + paced) / 2), ttft: of(first) };
}

/** A guaranteed answer is predicted within its budget, since depth gives way; one that is cut ends at its deadline. */
function predictionOf(
  { state, self }: Tried,
  exit: number,
  features: { readonly total: LatencyFeatures; readonly ttft: LatencyFeatures },
  serviceClass: ServiceClass,
  learned: Learned,
  { low, high }: Offsets,
): Prediction {
  const planned = state.at(self);
  const { budget } = planned.request;
  const isBounded = serviceClass === 'guaranteed' || budget?.onMiss === 'truncate';
  // An answer never takes less than it would alone at its floor.
  const leastMs = aloneMs(planned, state.floor(self), state.model, state.policy) + state.policy.requestOverheadMs;
  const waitedMs = state.state.now - planned.request.arrivedAt;
  const median = Math.max(waitedMs + leastMs, predictedMs(learned.total, features.total));
  const totalMs = Math.min(median, (isBounded ? budget?.totalMs : null) ?? Infinity);
  const steps = (share: number): number => Math.max(0, stepsLeft(planned, exit, share) - 1);
  // Total and first token are learnt apart, so the forecast bounds how they share the total.
  const laterMs = median * (1 - features.ttft.forecastMs / features.total.forecastMs);
  const learntMs = median - predictedMs(learned.ttft, features.ttft);
  const perStep = Math.min(median, 2 * laterMs, Math.max(laterMs / 2, learntMs)) / Math.max(1, steps(0.5));
  const part = (ms: number | null | undefined): number => (serviceClass === 'guaranteed' ? (ms ?? Infinity) : Infinity);
  const ttftMs = Math.min(median - perStep * steps(0.5), totalMs, part(budget?.ttftMs));
  const evenly = (totalMs - ttftMs) / Math.max(1, steps(0.5));
  const tpotMs = Math.min(budget?.onMiss === 'truncate' ? perStep : evenly, part(budget?.tpotMs));
  return {
    ttftMs,
    tpotMs,
    totalMs,
    p10Ms: Math.min(totalMs, (ttftMs + steps(0.1) * perStep) * Math.exp(low)),
    p90Ms: Math.max(totalMs, (ttftMs + steps(0.9) * perStep) * Math.exp(high)),
  };
}
