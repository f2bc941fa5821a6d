/**
 * Admission: the deepest exit that makes a new request's budget here and now, or the least budget that would do.
 *
 * Knows: the agenda with the request in it. Must not know: what happens after it was admitted (replan).
 */
import { Agenda } from './agenda.js';
import { type Batch, aloneMs, batchOf, outlook, stretchOf } from './batch.js';
import { type Outlook, estimateMs } from './estimate.js';
import { type Job, stepsLeft } from './jobs.js';
import type { Learned } from './learned.js';
import type { CostModel } from './model.js';
import { order } from './order.js';
import { DepthPlan } from './plan.js';
import { careOf, marginOf } from './promises.js';
import { promptMs } from './steps.js';
import type { Admission, Budget, Policy, Prediction, RouterState, WaitingRequest } from './types.js';

/**
 * @param asked its `exit`, `promised` and `told` are ignored: admission decides them
 * @param state without the request
 */
export function admit(asked: WaitingRequest, state: RouterState, model: CostModel, policy: Policy): Admission {
  const request: WaitingRequest = { ...asked, promised: true, told: true };
  const ordered = order([...state.waiting, request], state, model, policy);
  const batch = batchOf(state, ordered, model, policy, ordered.length);
  const self = batch.jobs.findIndex((job) => job.request === request);
  const job = batch.jobs[self];
  if (job === undefined) throw new Error('a request to admit must be among the waiting');

  const room = job.bound ? roomFor(batch, self) : Infinity;
  const bound = room >= 1;
  const { learned } = state;
  const isRefusable = request.budget?.onMiss === 'reject';
  if (isRefusable && room < careful(state)) {
    return { kind: 'refuse', leastFeasibleMs: leastFeasible(batch, self) };
  }
  const plan = new DepthPlan(batch);
  plan.keep();
  plan.begin();
  const exit = !job.bound ? job.max : bound ? (plan.exits[self] ?? job.min) : job.min;
  const outlookAt = (exit: number): Outlooks => outlookOf(batch, job, exit, at(batch, self, exit), room);
  const outlook = outlookAt(exit);
  const prediction = predictionOf(job, outlook, learned);
  // Depth is given up where time gets short, so what counts is how long it takes without.
  const shallowMs = (): number => estimateMs(learned.total, (exit === job.min ? outlook : outlookAt(job.min)).total);
  const feasible = isRefusable || isPromised(request.budget, room, shallowMs, state);
  return {
    kind: 'admit',
    exit: model.shape.exits[exit]?.layer ?? request.maxExit,
    prediction: feasible ? within(prediction, request.budget) : prediction,
    outlook,
    feasible,
    bound,
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

/** How many times the work due must fit before a promise is made by room. */
function careful({ learned, now }: RouterState): number {
  return 1 + marginOf(learned.promises, now);
}

/** What is promised is predicted: depth gives way before the budget is missed. */
function within(prediction: Prediction, budget: Budget | null): Prediction {
  const totalMs = Math.min(prediction.totalMs, budget?.totalMs ?? Infinity);
  const ttftMs = Math.min(prediction.ttftMs, totalMs, budget?.ttftMs ?? Infinity);
  const after = prediction.totalMs - prediction.ttftMs;
  const tpotMs = after > 0 ? (prediction.tpotMs * (totalMs - ttftMs)) / after : prediction.tpotMs;
  return { ttftMs, tpotMs: Math.min(tpotMs, budget?.tpotMs ?? Infinity), totalMs };
}

interface Instants {
  readonly first: number;
  readonly end: number;
}

/**
 * Instants of one job at an exit, with everybody else at the exit they have now. While others decode, the pace that
 * they get lately counts as much as the pace of those who are known: it holds what arrivals do to it.
 */
function at(batch: Batch, self: number, exit: number): Instants {
  const { jobs, state, model } = batch;
  const job = jobs[self];
  const future = outlook(batch, (each) => (each === job ? exit : each.present));
  const first = future.first[self] ?? 0;
  const end = future.end[self] ?? 0;
  const { paceMs } = model.correction;
  if (job === undefined || paceMs === 0 || state.live.length === 0) return { first, end };
  return { first, end: (end + first + Math.max(0, stepsLeft(job, job.likely) - 1) * paceMs) / 2 };
}

/** How many times its budget holds what is due by then, everybody at their shallowest; 0 where it takes another's. */
function roomFor(batch: Batch, self: number): number {
  const job = batch.jobs[self];
  const agenda = new Agenda(batch, true);
  if (job === undefined || agenda.lost.has(job)) return 0;
  return takesAnothers(batch, self, agenda.lost) ? 0 : agenda.room(self, stepGrain(batch));
}

/** Whether somebody is given up for a job who would not be without it: an older promise goes before a new one. */
function takesAnothers(batch: Batch, self: number, lost: ReadonlySet<Job>): boolean {
  if (lost.size === 0) return false;
  const jobs = batch.jobs.map((job, i) => (i === self ? { ...job, promised: false } : job));
  const without = new Agenda({ ...batch, jobs }, true).lost;
  return [...lost].some((job) => !without.has(job));
}

/** Milliseconds of the shortest step that prefills while others decode: one that began for others is in the way. */
function stepGrain({ jobs, model, policy, state, step }: Batch): number {
  if (jobs.length < 2) return 0;
  const [chunk = 1] = policy.chunks;
  const rows = new Int32Array(model.shape.exits.length);
  // Whoever waits is in no step.
  rows[0] = Math.min(jobs.length, state.slots);
  return step(rows) + promptMs(model, rows.length - 1, chunk, chunk);
}

/** How near the least feasible budget is found, and how many agendas that may take where as many jobs are there. */
const NEAR = 0.05;
const TRIES = 10;
const MANY = 64;

/**
 * The least total budget that would be admitted here and now, counted from arrival: between none and what serves the
 * request after everybody else. Where many are there, the latter: a refusal must stay cheap.
 */
function leastFeasible(batch: Batch, self: number): number {
  const { policy, state, jobs } = batch;
  const wouldDo = (waitMs: number): boolean => roomFor(dueAt(batch, self, state.now + waitMs), self) >= careful(state);
  let most = lastMs(batch, self);
  let least = 0;
  let tries = jobs.length > MANY ? 2 : TRIES;
  // What is expected to arrive meanwhile is not in it, and others may be due later still.
  for (; tries > 0 && !wouldDo(most); tries -= 1) {
    least = most;
    most *= 1.5;
  }
  for (; tries > 0 && most - least > NEAR * most; tries -= 1) {
    const between = (least + most) / 2;
    if (wouldDo(between)) most = between;
    else least = between;
  }
  const arrivedAt = jobs[self]?.request.arrivedAt ?? state.now;
  return Math.ceil(state.now + most - arrivedAt + policy.requestOverheadMs);
}

/** Milliseconds from now to the last token of a request that is served after everybody else, at its shallowest. */
function lastMs(batch: Batch, self: number): number {
  const agenda = new Agenda(dueAt(batch, self, Number.MAX_VALUE), true);
  return (agenda.workUntil(self) * stretchOf(batch.jobs, batch.policy) + stepGrain(batch)) * careful(batch.state);
}

/** The batch as it would be with that instant as the only deadline of one of its jobs. */
function dueAt(batch: Batch, self: number, end: number): Batch {
  const deadlines = { first: Infinity, end, tpot: Infinity };
  return { ...batch, jobs: batch.jobs.map((job, i) => (i === self ? { ...job, deadlines } : job)) };
}

type Outlooks = Extract<Admission, { kind: 'admit' }>['outlook'];

/** What the forecast says, and what tells how far to trust it. */
function outlookOf(batch: Batch, job: Job, exit: number, { first, end }: Instants, room: number): Outlooks {
  const { state, model, policy } = batch;
  const overhead = state.now - job.request.arrivedAt + policy.requestOverheadMs;
  const aloneTotalMs = aloneMs(job, job.max, model, policy) + policy.requestOverheadMs;
  const depthMs = aloneMs(job, exit, model, policy) + policy.requestOverheadMs;
  const { budget } = job.request;
  const of = (forecastMs: number): Outlook => {
    return { forecastMs, aloneMs: aloneTotalMs, depthMs, budgetMs: budget?.totalMs ?? Infinity, room };
  };
  return { total: of(end - state.now + overhead), ttft: of(first - state.now + overhead) };
}

function predictionOf(job: Job, outlook: Outlooks, learned: Learned): Prediction {
  const totalMs = estimateMs(learned.total, outlook.total);
  const ttftMs = Math.min(totalMs, estimateMs(learned.ttft, outlook.ttft));
  return { ttftMs, tpotMs: job.likely < 2 ? 0 : (totalMs - ttftMs) / (job.likely - 1), totalMs };
}
