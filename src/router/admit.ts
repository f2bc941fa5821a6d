/**
 * Admission: the deepest exit that makes a new request's budget here and now, or the least budget that would do.
 *
 * Knows: the batch's future. Must not know: what happens after it was admitted (replan).
 */
import { type Batch, batchOf, outlook, shallowest, stretchOf } from './batch.js';
import { type Job, stepsLeft } from './jobs.js';
import type { CostModel } from './model.js';
import { order } from './order.js';
import { promptMs } from './steps.js';
import type { Admission, Policy, Prediction, RouterState, WaitingRequest } from './types.js';

/**
 * @param asked its `exit` and `promised` are ignored: admission decides them
 * @param state without the request
 */
export function admit(asked: WaitingRequest, state: RouterState, model: CostModel, policy: Policy): Admission {
  const request: WaitingRequest = { ...asked, promised: true };
  const ordered = order([...state.waiting, request], state.now, state.lengths, model, policy);
  const batch = batchOf(state, ordered, model, policy, ordered.length);
  const self = batch.jobs.findIndex((job) => job.request === request);
  const job = batch.jobs[self];
  if (job === undefined) throw new Error('a request to admit must be among the waiting');

  const feasible = !job.bound || isFeasible(batch, job);
  if (!feasible && request.budget?.onMiss === 'reject') {
    return { kind: 'refuse', leastFeasibleMs: leastFeasible(batch, job) };
  }
  const exit = !job.bound ? job.max : feasible ? deepest(request, state, model, policy) : job.min;
  return {
    kind: 'admit',
    exit: model.shape.exits[exit]?.layer ?? request.maxExit,
    prediction: predictionOf(job, at(batch, self, exit, likely), state.now, policy),
    feasible,
  };
}

interface Instants {
  readonly first: number;
  readonly end: number;
}

const planned = (job: Job): number => job.length;
const likely = (job: Job): number => job.likely;

/**
 * Instants of one job at an exit, with everybody else at the exit they have now. While others decode, the pace that
 * they get lately counts as much as the pace of those who are known: it holds what arrivals do to it.
 */
function at(batch: Batch, self: number, exit: number, lengthOf: (job: Job) => number): Instants {
  const { jobs, state, model } = batch;
  const job = jobs[self];
  const future = outlook(batch, jobs, (each) => (each === job ? exit : each.present), 1, lengthOf);
  const first = future.first[self] ?? 0;
  const end = future.end[self] ?? 0;
  const { paceMs } = model.correction;
  if (job === undefined || paceMs === 0 || state.live.length === 0) return { first, end };
  return { first, end: (end + first + stepsLeft(job, lengthOf(job)) * paceMs) / 2 };
}

/** With everybody bound at their shallowest: it makes its budget, and nobody who made theirs without it misses it. */
function isFeasible(batch: Batch, self: Job): boolean {
  const bound = batch.jobs.filter((job) => job.bound);
  const others = bound.filter((job) => job !== self);
  const stretch = stretchOf(batch.jobs, batch.policy);
  // Work comes in whole steps: one that began for somebody else may be in the way of the last token.
  const grain = stepGrain(batch);
  const met = (jobs: readonly Job[]): Set<Job> => {
    const { first, end } = outlook(batch, jobs, shallowest, stretch);
    return new Set(
      jobs.filter((job, i) => {
        const wait = job === self ? grain : 0;
        return meets(job, (first[i] ?? 0) + wait, (end[i] ?? 0) + wait);
      }),
    );
  };
  const withIt = met(bound);
  if (!withIt.has(self)) return false;
  const without = met(others);
  return others.every((job) => withIt.has(job) || !without.has(job));
}

/** Milliseconds of the shortest step that prefills while others decode. */
function stepGrain({ jobs, model, policy, step }: Batch): number {
  if (jobs.length < 2) return 0;
  const [chunk = 1] = policy.chunks;
  const rows = new Int32Array(model.shape.exits.length);
  rows[0] = jobs.length;
  return step(rows) + promptMs(model, rows.length - 1, chunk, chunk);
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
  const self = batch.jobs.length - 1;
  const job = batch.jobs[self];
  if (job === undefined) throw new Error('a request to admit must be among the waiting');
  const stretched = (instant: number): number => state.now + (instant - state.now) * (1 + policy.margin);
  for (let exit = job.max; exit > job.min; exit -= 1) {
    if (isDominated(model, exit, job.min)) continue;
    const { first, end } = at(batch, self, exit, planned);
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
  const stretch = stretchOf(batch.jobs, policy);
  const { end } = outlook(batch, bound, shallowest, stretch);
  return Math.ceil((end.at(-1) ?? state.now) - job.request.arrivedAt + policy.requestOverheadMs);
}

function predictionOf(job: Job, { first, end }: Instants, now: number, policy: Policy): Prediction {
  const overhead = now - job.request.arrivedAt + policy.requestOverheadMs;
  return {
    ttftMs: first - now + overhead,
    tpotMs: job.likely < 2 ? 0 : (end - first) / (job.likely - 1),
    totalMs: end - now + overhead,
  };
}
