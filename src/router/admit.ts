/**
 * Admission: the deepest exit that makes a new request's budget here and now, or the least budget that would do.
 *
 * Knows: who has room (room.ts), the depth plan, forecasts. Must not know: what happens after it was admitted (replan).
 */
import { type Batch, aloneMs, batchOf, outlook } from './batch.js';
import { type Outlook, estimateMs } from './estimate.js';
import { ratesOf } from './demand.js';
import { type Job, stepsLeft } from './jobs.js';
import { type Learned, observeRequest } from './learned.js';
import type { CostModel } from './model.js';
import { order } from './order.js';
import { DepthPlan } from './plan.js';
import { careOf } from './promises.js';
import { careful, leastFeasible, roomFor } from './room.js';
import type { Admission, Budget, Policy, Prediction, RouterState, WaitingRequest } from './types.js';

/**
 * Admits what arrived since the last step. Promises are made one after the other; depths and predictions know of all
 * who are admitted: the first of a burst isn't told what it would get without the others.
 * @param asked their `exit`, `promised` and `told` are ignored: admission decides them
 * @param state without them
 * @returns by request
 */
export function admitAll(
  asked: readonly WaitingRequest[],
  state: RouterState,
  model: CostModel,
  policy: Policy,
): Admission[] {
  const batchWith = (requests: readonly WaitingRequest[], learned: Learned): Batch => {
    const known: RouterState = { ...state, learned, waiting: [...state.waiting, ...requests] };
    return batchOf(known, order(known.waiting, known, model, policy), model, policy, known.waiting.length);
  };
  const decisions: Decision[] = [];
  const taken: WaitingRequest[] = [];
  let { learned } = state;
  let batch: Batch | null = null;
  for (const request of asked) {
    const counted = observeRequest(learned, request, state.now);
    batch = batchWith([...taken, { ...request, promised: true, told: true }], counted);
    const self = placeOf(batch, request.id);
    const room = batch.jobs[self]?.bound === true ? roomFor(batch, self) : Infinity;
    if (request.budget?.onMiss === 'reject' && room < careful(state)) {
      decisions.push({ kind: 'refuse', leastFeasibleMs: leastFeasible(batch, self) });
      continue;
    }
    const bound = room >= 1;
    taken.push({ ...request, promised: bound, told: bound });
    decisions.push({ kind: 'admit', id: request.id, room });
    learned = counted;
  }
  // Nobody's depth is left to plan: a refusal must stay cheap.
  if (taken.length === 0) return decisions.flatMap((each) => (each.kind === 'refuse' ? [each] : []));
  // Each batch holds one as if it were promised its budget, and taken at all. Of one alone that decides nothing more.
  const all = batch !== null && asked.length === 1 ? batch : batchWith(taken, learned);
  // Those who arrived just now are there: what comes after them is what came before.
  const perMs = ratesOf(state.learned.demand, state.now).requests;
  const exits = depthsOf(all, new Map(taken.map(({ id, promised }) => [id, promised === true])));
  return decisions.map((each) => {
    if (each.kind === 'refuse') return each;
    return admissionOf(all, exits, placeOf(all, each.id), { room: each.room, perMs });
  });
}

type Refusal = Extract<Admission, { kind: 'refuse' }>;
type Decision = Refusal | { readonly kind: 'admit'; readonly id: string; readonly room: number };

/** Its place among the jobs of a batch. @throws Error where it is not there */
function placeOf({ jobs }: Batch, id: string): number {
  const place = jobs.findIndex(({ request }) => request.id === id);
  if (place < 0) throw new Error('a request to admit must be among the waiting');
  return place;
}

/** By job: the exit that it has, or begins with where it is taken now. @param taken ids, and whether plans count on them */
function depthsOf(batch: Batch, taken: ReadonlyMap<string, boolean>): number[] {
  const plan = new DepthPlan(batch);
  plan.keep();
  plan.begin();
  return batch.jobs.map((job, i) => {
    const isCounted = taken.get(job.request.id);
    if (isCounted === undefined) return job.present;
    if (!job.bound) return job.max;
    return isCounted ? (plan.exits[i] ?? job.min) : job.min;
  });
}

/** What a prediction goes by beside the batch. */
interface Circumstances {
  /** See room.ts; Infinity without a budget. */
  readonly room: number;
  /** Requests that arrive in a millisecond. */
  readonly perMs: number;
}

/** What a request is told that is taken. */
function admissionOf(batch: Batch, exits: readonly number[], self: number, circumstances: Circumstances): Admission {
  const { jobs, state, model } = batch;
  const job = jobs[self];
  const exit = exits[self];
  if (job === undefined || exit === undefined) throw new Error('a request to admit must be among the waiting');
  const { learned } = state;
  const { room } = circumstances;
  const { budget, maxExit } = job.request;
  const outlookAt = (exit: number): Outlooks =>
    outlookOf(batch, job, exit, at(batch, exits, self, exit), circumstances);
  const outlook = outlookAt(exit);
  // Depth is given up where time gets short, so what counts is how long it takes without.
  const shallowMs = (): number => estimateMs(learned.total, (exit === job.min ? outlook : outlookAt(job.min)).total);
  const feasible = budget?.onMiss === 'reject' || isPromised(budget, room, shallowMs, state);
  return {
    kind: 'admit',
    exit: model.shape.exits[exit]?.layer ?? maxExit,
    prediction: feasible
      ? within(predictionOf(job, outlook, learned), budget)
      : untilCut(predictionOf(job, outlook, learned, leastMsOf(batch, job)), budget),
    outlook,
    feasible,
    bound: room >= 1,
  };
}

/**
 * Whether a budget that is served in any case is promised: plans have room for it, and it is larger than what is predicted
 * at the shallowest exit, by what was learnt of such promises. Room alone tells less: it holds what is due by then, not
 * what makes such answers late. (Where refusals shed the load, room tells more.) A first token and a pace are promised by
 * room, with its margin, whether there is a total or not.
 */
function isPromised(budget: Budget | null, room: number, shallowMs: () => number, state: RouterState): boolean {
  const totalMs = budget?.totalMs ?? null;
  const hasParts = budget !== null && (budget.ttftMs !== null || budget.tpotMs !== null);
  if (room < (hasParts || totalMs === null ? careful(state) : 1)) return false;
  return totalMs === null || totalMs >= shallowMs() * careOf(state.learned.told, state.now);
}

/** What is promised is predicted: depth gives way before the budget is missed. */
function within(prediction: Prediction, budget: Budget | null): Prediction {
  const totalMs = Math.min(prediction.totalMs, budget?.totalMs ?? Infinity);
  const ttftMs = Math.min(prediction.ttftMs, totalMs, budget?.ttftMs ?? Infinity);
  const after = prediction.totalMs - prediction.ttftMs;
  const tpotMs = after > 0 ? (prediction.tpotMs * (totalMs - ttftMs)) / after : prediction.tpotMs;
  return { ttftMs, tpotMs: Math.min(tpotMs, budget?.tpotMs ?? Infinity), totalMs };
}

/** An answer that is cut at its deadline is over then, at the pace that it has. */
function untilCut({ ttftMs, tpotMs, totalMs }: Prediction, budget: Budget | null): Prediction {
  const endMs = (budget?.onMiss === 'truncate' ? budget.totalMs : null) ?? Infinity;
  return { ttftMs: Math.min(ttftMs, endMs), tpotMs, totalMs: Math.min(totalMs, endMs) };
}

interface Instants {
  readonly first: number;
  readonly end: number;
}

/**
 * Instants of one job at an exit, with everybody else at theirs. While others decode, the pace that
 * they get lately counts as much as the pace of those who are known: it holds what arrivals do to it.
 */
function at(batch: Batch, exits: readonly number[], self: number, exit: number): Instants {
  const { jobs, state, model } = batch;
  const job = jobs[self];
  const future = outlook(batch, (_, i) => (i === self ? exit : (exits[i] ?? 0)));
  const first = future.first[self] ?? 0;
  const end = future.end[self] ?? 0;
  const { paceMs } = model.correction;
  if (job === undefined || paceMs === 0 || state.live.length === 0) return { first, end };
  return { first, end: (end + first + Math.max(0, stepsLeft(job, job.likely) - 1) * paceMs) / 2 };
}

type Outlooks = Extract<Admission, { kind: 'admit' }>['outlook'];

/** What the forecast says, and what tells how far to trust it. */
function outlookOf(
  batch: Batch,
  job: Job,
  exit: number,
  { first, end }: Instants,
  { room, perMs }: Circumstances,
): Outlooks {
  const { jobs, state, model, policy } = batch;
  const overhead = state.now - job.request.arrivedAt + policy.requestOverheadMs;
  const aloneTotalMs = aloneMs(job, job.max, model, policy) + policy.requestOverheadMs;
  const depthMs = aloneMs(job, exit, model, policy) + policy.requestOverheadMs;
  const { budget } = job.request;
  const of = (forecastMs: number): Outlook => {
    const coming = (perMs * forecastMs) / jobs.length;
    return { forecastMs, aloneMs: aloneTotalMs, depthMs, budgetMs: budget?.totalMs ?? Infinity, room, coming };
  };
  return { total: of(end - state.now + overhead), ttft: of(first - state.now + overhead) };
}

/**
 * What an answer takes on an idle machine at its shallowest exit. Estimates expect that depth gives way until the budget
 * is made (estimate.ts): below this it can't.
 */
function leastMsOf({ state, model, policy }: Batch, job: Job): number {
  return state.now - job.request.arrivedAt + policy.requestOverheadMs + aloneMs(job, job.min, model, policy);
}

/** How many times as much, or as little, of the time goes to the later tokens as the forecast says, at most. */
const APART = 2;

/**
 * Total and first token are learnt apart. Where most of the time goes to one part, what is left of the total for the other
 * is the difference of two large numbers: a pace that no step ever had, or none. There the forecast says how they share it.
 */
function predictionOf(job: Job, outlook: Outlooks, learned: Learned, leastMs = 0): Prediction {
  const totalMs = Math.max(leastMs, estimateMs(learned.total, outlook.total));
  const learnedMs = estimateMs(learned.ttft, outlook.ttft);
  if (job.likely < 2) return { ttftMs: Math.min(totalMs, learnedMs), tpotMs: 0, totalMs };
  const forecastMs = (totalMs * (outlook.total.forecastMs - outlook.ttft.forecastMs)) / outlook.total.forecastMs;
  const laterMs = Math.min(totalMs, APART * forecastMs, Math.max(forecastMs / APART, totalMs - learnedMs));
  return { ttftMs: totalMs - laterMs, tpotMs: laterMs / (job.likely - 1), totalMs };
}
