/**
 * Admission control: the exit, the service class and the prediction of new requests, or the least budget that would be
 * guaranteed.
 */
import { at } from '../cost/model.js';
import type { Arrivals } from './arrivals.js';
import { type Exits, chooseExits, forecast } from './plan.js';
import { PlanningState } from './planning-state.js';
import { isPromised, latePromises } from './promise.js';
import { order } from './queue.js';
import { deepestUnder } from './load-depth.js';
import type { Played } from './forecast.js';
import { type PlannedRequest, type Planning, hasBudget } from './request.js';
import { type SafetyMargin, marginAt } from './safety-margin.js';
import type { Admission, DepthReason, EngineState, Prediction, RequestView, ServiceClass } from './types.js';

/** The estimates that admission goes by. */
export interface Learned extends Planning {
  readonly arrivals: Arrivals;
  readonly margin: SafetyMargin;
}

type Decision =
  | { readonly kind: 'reject'; readonly leastFeasibleMs: number | null; readonly bestExit: number | null }
  | { readonly kind: 'admit'; readonly isPromised: boolean };

/**
 * Admits what arrived since the last step. Promises are made one after the other; exits and predictions know of all that
 * are admitted, so the first of a burst is not predicted as if it were alone.
 * @param engine without them
 * @returns by request
 */
export function admitAll(arrived: readonly RequestView[], engine: EngineState, learned: Learned): Admission[] {
  const stateWith = (requests: readonly RequestView[]): PlanningState => {
    const all = { ...engine, waiting: [...engine.waiting, ...requests] };
    return new PlanningState({ ...all, waiting: order(all, learned).requests }, learned, Infinity);
  };
  const careful = 1 + marginAt(learned.margin, engine.now);
  const taken: RequestView[] = [];
  const decisions: Decision[] = [];
  for (const [i, request] of arrived.entries()) {
    const asked = { ...request, serviceClass: 'guaranteed' as const };
    const holds = hasBudget(request.budget) && isHeld(stateWith([...taken, asked]), [request.id], careful);
    if (!holds && request.budget?.onMiss === 'reject') {
      const siblings = arrived.slice(i).filter((each) => isSibling(each, request));
      const rest = siblings.map((each) => ({ ...each, serviceClass: 'guaranteed' as const }));
      const fits = (change: Partial<RequestView>): boolean => {
        const changed = rest.map((each) => ({ ...each, ...change }));
        return isHeld(stateWith([...taken, ...changed]), ids(rest), careful);
      };
      decisions.push({
        kind: 'reject',
        leastFeasibleMs: leastFeasible(request, engine.now, fits),
        bestExit: bestBelow(request, learned, fits),
      });
      continue;
    }
    decisions.push({ kind: 'admit', isPromised: holds });
    taken.push({ ...asked, serviceClass: holds ? 'guaranteed' : 'best_effort' });
  }
  const state = stateWith(taken);
  const exits = chooseExits(state, deepestUnder(state, learned.arrivals.expected(engine.now)));
  const played = forecast(state, exits);
  return arrived.map(({ id }, i) => {
    const decision = at(decisions, i);
    if (decision.kind === 'reject') return decision;
    const self = find(state, id);
    return admitted(state, { exits, played: played.get(self) }, self, decision.isPromised);
  });
}

const ids = (requests: readonly RequestView[]): string[] => requests.map(({ id }) => id);

/** Choices of one request arrive together, and a rejection of one rejects all. */
function isSibling(a: RequestView, b: RequestView): boolean {
  return (
    a.arrivedAt === b.arrivedAt && a.budget?.totalMs === b.budget?.totalMs && a.budget?.onMiss === b.budget?.onMiss
  );
}

/** Whether the promises of these requests hold, and make no older promise late. */
function isHeld(state: PlanningState, asked: readonly string[], careful: number): boolean {
  // A budget that is over has no promise to be late for.
  if (state.requests.some((each) => asked.includes(each.request.id) && !isPromised(each))) return false;
  const late = latePromises(state, careful);
  if (late.size === 0) return true;
  if ([...late].some(({ request }) => asked.includes(request.id))) return false;
  const others = new Set(asked);
  const { live, waiting } = state.engine;
  const rest = (requests: readonly RequestView[]): RequestView[] => requests.filter(({ id }) => !others.has(id));
  const without = new PlanningState({ ...state.engine, live, waiting: rest(waiting) }, state, Infinity);
  const wasLate = new Set([...latePromises(without, careful)].map(({ request }) => request.id));
  return [...late].every(({ request }) => wasLate.has(request.id));
}

/** The deepest exit below the floor of quality whose promise would hold, or null. */
function bestBelow(
  { minExit, openExit = minExit }: RequestView,
  { model }: Learned,
  fits: (change: Partial<RequestView>) => boolean,
): number | null {
  const below = model.shape.exits.map(({ layer }) => layer).filter((layer) => layer >= openExit && layer < minExit);
  return below.reverse().find((exit) => fits({ minExit: exit })) ?? null;
}

/** @throws Error where the request is not in the state */
function find({ requests }: PlanningState, id: string): PlannedRequest {
  const found = requests.find(({ request }) => request.id === id);
  if (found === undefined) throw new Error(`request ${id} must be among the waiting`);
  return found;
}

/** Accuracy of the least feasible budget, and the longest that is tried, ms: a day. */
const ACCURACY = 0.04;
const LONGEST_MS = 86_400_000;
/** Room for the requests that arrive until a retry: of 94 retries without it, 17 were rejected again beside 4 clients. */
const RETRY_ROOM = 0.15;

/**
 * The least total budget, from arrival, whose promise would hold, found by doubling and bisection, with room for a retry.
 * @returns null where none was found
 */
function leastFeasible(
  { arrivedAt, budget }: RequestView,
  now: number,
  fits: (change: Partial<RequestView>) => boolean,
): number | null {
  const isEnough = (totalMs: number): boolean =>
    fits({ budget: { totalMs, ttftMs: null, tpotMs: null, onMiss: 'reject' } });
  let least = now - arrivedAt;
  let most = Math.max(64, 2 * least, budget?.totalMs ?? 0);
  while (!isEnough(most)) {
    least = most;
    most *= 2;
    if (most > LONGEST_MS) return null;
  }
  while (most - least > ACCURACY * most) {
    const between = (least + most) / 2;
    if (isEnough(between)) most = between;
    else least = between;
  }
  const roomy = most * (1 + RETRY_ROOM);
  // A longer answer needs more of the KV cache.
  return Math.ceil(isEnough(roomy) ? roomy : most * (1 + ACCURACY));
}

/** The plan of a request. */
interface Planned {
  readonly exits: Exits;
  readonly played: Played | undefined;
}

/** The answer to a request that is admitted. */
function admitted(state: PlanningState, plan: Planned, self: PlannedRequest, isPromised: boolean): Admission {
  const { budget } = self.request;
  const exit = plan.exits.get(self) ?? self.currentExit;
  const serviceClass: ServiceClass = !hasBudget(budget) ? 'none' : isPromised ? 'guaranteed' : 'best_effort';
  const lasting = answerOf(state, plan, self, exit);
  return {
    kind: 'admit',
    exit: at(state.model.shape.exits, exit).layer,
    reason: reasonOf(state, self, exit),
    serviceClass,
    prediction: lasting.prediction,
    expectedTokens: lasting.tokens,
    expectedTokensP90: lasting.tokensP90,
    probability: budget?.totalMs == null ? null : lasting.probability,
  };
}

/** Why a request has an exit: the first cause that alone explains it. */
export function reasonOf(state: PlanningState, self: PlannedRequest, exit: number): DepthReason {
  if (exit === self.maxExit) return 'deepest';
  const { model, engine } = state;
  const alone = (planning: Planning): number => {
    const only = new PlanningState({ ...engine, live: [], waiting: [self.request] }, planning);
    const [planned] = only.requests;
    const exits = chooseExits(only, only.costs.length - 1);
    return (planned && exits.get(planned)) ?? exit;
  };
  if (alone(state) > exit) return 'load';
  const calm = { ...model, drift: { ...model.drift, slowdown: Math.min(1, model.drift.slowdown) } };
  return alone({ model: calm, policy: state.policy, lengths: state.lengths, worth: state.worth }) > exit
    ? 'noise'
    : 'budget';
}

interface Answer {
  readonly prediction: Prediction;
  readonly tokens: number;
  readonly tokensP90: number;
  readonly probability: number;
}

/** The expected answer: its times by the play, its lengths by the estimate, both within its budget where it lands. */
function answerOf(state: PlanningState, { played }: Planned, self: PlannedRequest, exit: number): Answer {
  const { now, policy, sentenceTokens } = state;
  const { request, deadlines } = self;
  const from = request.arrivedAt - policy.requestOverheadMs;
  // Requests without a deadline wait for their share under a price.
  const firstAt = played?.firstTokenAt ?? self.setupMs(exit) / policy.noBudgetShare;
  const isRun = played !== undefined && played.endsAt < Infinity && firstAt < Infinity;
  const stepMs = isRun && played.tokens > 1 ? (played.endsAt - firstAt) / (played.tokens - 1) : self.stepMs(exit);
  const ttftMs = now + (firstAt < Infinity ? firstAt : self.setupMs(exit)) - from;
  const isCut = request.lands || request.budget?.onMiss === 'truncate';
  const fitting = isCut ? Math.max(0, (deadlines.end - from - ttftMs) / Math.max(1e-3, stepMs)) : Infinity;
  const tokens = (share: number): number =>
    Math.max(0, Math.min(self.stepsLeft(exit, share), Math.max(1, Math.floor(fitting))));
  const totalMs = (share: number): number => {
    const ms = ttftMs + Math.max(0, tokens(share) - 1) * stepMs;
    return isCut ? Math.min(ms, request.budget?.totalMs ?? Infinity) : ms;
  };
  const steps = (deadlines.end - from - ttftMs) / Math.max(1e-3, stepMs);
  const inTime = request.lands ? 1 - 0.1 ** (Math.max(0, steps) / sentenceTokens) : self.probabilityWithin(exit, steps);
  return {
    prediction: { ttftMs, tpotMs: stepMs, totalMs: totalMs(0.5), p10Ms: totalMs(0.1), p90Ms: totalMs(0.9) },
    tokens: request.generated + tokens(0.5),
    tokensP90: request.generated + tokens(0.9),
    probability: deadlines.end === Infinity ? 1 : inTime,
  };
}
