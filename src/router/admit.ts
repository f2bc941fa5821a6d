/**
 * Admission: the deepest exit that makes a new request's budget here and now, or the least budget that would do.
 *
 * Knows: the batch's future. Must not know: what happens after it was admitted (replan).
 */
import { type Batch, batchOf, outlook, stretchOf } from './batch.js';
import { type Job, jobOf } from './jobs.js';
import type { CostModel } from './model.js';
import { order } from './order.js';
import type { Admission, Policy, Prediction, RouterState, WaitingRequest } from './types.js';

/**
 * @param request its `exit` is ignored: admission decides it
 * @param state without the request
 */
export function admit(request: WaitingRequest, state: RouterState, model: CostModel, policy: Policy): Admission {
  const ordered = order([...state.waiting, request], state.now, state.lengths, model, policy);
  const batch = batchOf(state, ordered, model, policy);
  const self = batch.jobs.findIndex((job) => job.request === request);
  const job = batch.jobs[self];
  if (job === undefined) throw new Error('a request to admit must be among the waiting');

  const feasible = !job.bound || isFeasible(batch, self);
  if (!feasible && request.budget?.onMiss === 'reject') {
    return { kind: 'refuse', leastFeasibleMs: leastFeasible(batch, job) };
  }
  const exit = !job.bound ? job.max : feasible ? deepest(request, state, model, policy) : job.min;
  return {
    kind: 'admit',
    exit: model.shape.exits[exit]?.layer ?? request.maxExit,
    prediction: predictionOf(job, at(batch, batch.jobs, job, exit), state.now, policy),
    feasible,
  };
}

interface Instants {
  readonly first: number;
  readonly end: number;
}

/** Instants of one job with everybody else at the exit they have now. */
function at(batch: Batch, jobs: readonly Job[], job: Job, exit: number): Instants {
  const exits = jobs.map((each) => (each === job ? exit : each.present));
  const { first, end } = outlook(batch, jobs, exits, 1);
  const self = jobs.indexOf(job);
  return { first: first[self] ?? 0, end: end[self] ?? 0 };
}

/** With everybody bound at their shallowest: it makes its budget, and nobody who made theirs without it misses it. */
function isFeasible(batch: Batch, self: number): boolean {
  const bound = batch.jobs.filter((job) => job.bound);
  const stretch = stretchOf(batch.jobs, batch.policy) * (1 + batch.policy.margin);
  const job = batch.jobs[self];
  const others = bound.filter((each) => each !== job);
  const shallow = (jobs: readonly Job[]) =>
    outlook(
      batch,
      jobs,
      jobs.map((each) => each.min),
      stretch,
    );
  const withIt = shallow(bound);
  if (!bound.every((each, i) => each !== job || meets(each, withIt.first[i] ?? 0, withIt.end[i] ?? 0))) return false;
  const without = shallow(others);
  return others.every((each, i) => {
    const j = bound.indexOf(each);
    const met = meets(each, without.first[i] ?? 0, without.end[i] ?? 0);
    return !met || meets(each, withIt.first[j] ?? 0, withIt.end[j] ?? 0);
  });
}

/** Whether these instants keep a job's deadlines. */
export function meets(job: Job, first: number, end: number): boolean {
  const { deadlines, firstTokenAt, length } = job;
  if (end > deadlines.end) return false;
  if (firstTokenAt === null && first > deadlines.first) return false;
  return length < 2 || end - (firstTokenAt ?? first) <= deadlines.tpot * (length - 1);
}

/**
 * Deepest exit whose predicted time fits when everybody who came before is served before. (Where this request would
 * stand by its deadline depends on its budget, and a larger budget must not give a shallower plan.)
 */
function deepest(request: WaitingRequest, state: RouterState, model: CostModel, policy: Policy): number {
  const batch = batchOf(state, [...state.waiting, request], model, policy);
  const job = batch.jobs.at(-1) ?? jobOf(request, null, model, state.lengths, policy);
  for (let exit = job.max; exit > job.min; exit -= 1) {
    if (isDominated(model, exit, job.min)) continue;
    const { first, end } = at(batch, batch.jobs, job, exit);
    const stretched = (instant: number): number => state.now + (instant - state.now) * (1 + policy.margin);
    if (meets(job, stretched(first), stretched(end))) return exit;
  }
  return job.min;
}

/** An exit that isn't better than a shallower allowed one only costs time. */
function isDominated({ shape }: CostModel, exit: number, min: number): boolean {
  const quality = shape.exits[exit]?.quality ?? 0;
  return shape.exits.slice(min, exit).some((shallower) => shallower.quality >= quality);
}

/** From arrival to the last token when it is served after everybody else, at its shallowest. */
function leastFeasible(batch: Batch, job: Job): number {
  const { policy, state } = batch;
  const bound = [...batch.jobs.filter((each) => each.bound && each !== job), job];
  const stretch = stretchOf(batch.jobs, policy) * (1 + policy.margin);
  const { end } = outlook(
    batch,
    bound,
    bound.map((each) => each.min),
    stretch,
  );
  return Math.ceil((end.at(-1) ?? state.now) - job.request.arrivedAt + policy.requestOverheadMs);
}

function predictionOf(job: Job, { first, end }: Instants, now: number, policy: Policy): Prediction {
  const overhead = now - job.request.arrivedAt + policy.requestOverheadMs;
  return {
    ttftMs: first - now + overhead,
    tpotMs: job.length < 2 ? 0 : (end - first) / (job.length - 1),
    totalMs: end - now + overhead,
  };
}
