/**
 * The whole engine as jobs, and its future at any choice of exits.
 *
 * Knows: jobs, policy, forecast. Must not know: what is decided from it (admit, replan, chunk).
 */
import { isCrowded } from './crowd.js';
import { virtualDeadline } from './deadlines.js';
import { type Forecast, type Load, forecast } from './forecast.js';
import { type Job, expectedOf, gapAt, jobOf, meanContext, missingMs, stepsLeft } from './jobs.js';
import type { CostModel } from './model.js';
import { planChunk } from './policy.js';
import { type StepMs, loneStepMs, promptMs, stepTable } from './steps.js';
import type { Policy, RouterState, WaitingRequest } from './types.js';

export interface Batch {
  /** Live ones, then the waiting, as given. */
  readonly jobs: readonly Job[];
  /** Instant by which a job should be served. */
  readonly due: (job: Job | undefined) => number;
  readonly step: StepMs;
  /** By place among the jobs and exit: what that exit asks for once, prefill or catch-up, ms. */
  readonly onceMs: (job: number, exit: number) => number;
  readonly state: RouterState;
  readonly model: CostModel;
  readonly policy: Policy;
}

/** Waiting requests beyond this many change no plan of the live ones: the first ones bind already. */
export const FORESEEN = 64;

/**
 * @param waiting in order of service (order.ts)
 * @param foreseen how many of them count; admission needs all, since the new request may be the last
 */
export function batchOf(
  state: RouterState,
  waiting: readonly WaitingRequest[],
  model: CostModel,
  policy: Policy,
  foreseen: number = FORESEEN,
): Batch {
  const jobs = [
    ...state.live.map((sequence) => jobOf(sequence, sequence, model, state.learned.lengths, policy)),
    ...waiting.slice(0, foreseen).map((request) => jobOf(request, null, model, state.learned.lengths, policy)),
  ].map((job) => shed(job, model, policy));
  let context = 0;
  for (const job of jobs) context += meanContext(job);
  const known = new Map<Job, number>();
  const crowded = isCrowded({ slots: state.slots, waiting });
  const due = (job: Job | undefined): number => {
    if (job === undefined) return Infinity;
    const instant =
      known.get(job) ?? serviceDeadline(job, state.now, isOpen(job, state.now, model, policy, crowded), model, policy);
    known.set(job, instant);
    return instant;
  };
  const step = stepTable(model, jobs.length === 0 ? 0 : context / jobs.length);
  const exits = model.shape.exits.length;
  const once = new Float64Array(jobs.length * exits).fill(-1);
  const onceMs = (index: number, exit: number): number => {
    const at = index * exits + exit;
    const job = jobs[index];
    if (job === undefined) return 0;
    // A catch-up runs in one piece where it can.
    const chunk = job.prefilling ? planChunk(policy) : (policy.chunks.at(-1) ?? 1);
    if ((once[at] ?? -1) < 0) once[at] = missingMs(job, exit, model, chunk, expectedOf(job));
    return once[at] ?? 0;
  };
  return { jobs, due, step, onceMs, state, model, policy };
}

/** With load shedding by depth, requests without a budget have the deadline that keeps them from starving. */
function shed(job: Job, model: CostModel, policy: Policy): Job {
  if (!policy.shedDepth || job.request.budget !== null) return job;
  // All of its work, not what is left of it: the deadline stays where it is.
  const { promptLength, arrivedAt } = job.request;
  const wholeMs =
    promptMs(model, job.max, promptLength, planChunk(policy)) +
    job.length * loneStepMs(model, job.max, meanContext(job));
  const end = virtualDeadline(arrivedAt, wholeMs, policy);
  return { ...job, bound: true, deadlines: { ...job.deadlines, end } };
}

/** A job's work at an exit, up to its likely length. */
function loadOf(job: Job, index: number, exit: number, { model, policy, onceMs }: Batch): Load {
  const chunk = planChunk(policy);
  const prefillMs = job.prefilling ? onceMs(index, exit) : missingMs(job, exit, model, chunk);
  const held = job.live?.frontier[0] ?? 0;
  return {
    exit,
    prefillMs,
    chunks: job.prefilling ? Math.max(1, Math.ceil(gapAt(job, exit, model, expectedOf(job)) / chunk)) : 0,
    steps: stepsLeft(job, job.likely),
    holdsSlot: job.live !== null,
    held,
    positions: Math.max(0, job.request.promptLength + job.likely - held),
  };
}

/** The future of all jobs, each at its exit and up to its likely length. */
export function outlook(batch: Batch, exitOf: (job: Job, index: number) => number): Forecast {
  const { jobs, state, step } = batch;
  const loads = jobs.map((job, index) => loadOf(job, index, exitOf(job, index), batch));
  const queue = [...jobs.keys()].filter((i) => jobs[i]?.prefilling === true);
  queue.sort((a, b) => batch.due(jobs[a]) - batch.due(jobs[b]));
  const room = { slots: state.slots - state.live.length, positions: state.kvRoom };
  return forecast(loads, queue, room, state.now, step);
}

/** What a planned millisecond counts with: the margin, and the share of requests without a budget where there are any. */
export function stretchOf(jobs: readonly Job[], { margin, noBudgetShare }: Policy): number {
  return (1 + margin) / (jobs.some((job) => !job.bound) ? 1 - noBudgetShare : 1);
}

/** Milliseconds that a request most likely needs on an idle machine at an exit. */
export function aloneMs(job: Job, exit: number, model: CostModel, policy: Policy): number {
  const stepMs = loneStepMs(model, exit, meanContext(job));
  return missingMs(job, exit, model, planChunk(policy)) + stepsLeft(job, job.likely) * stepMs;
}

/** In a crowd, how many times as long as it would take at the present pace a request should have left: it isn't its turn yet. */
const TURN = 1.2;

/**
 * Whether the budget could still be kept at the likely length: by an idle machine, or in a crowd, at the pace that
 * decoding sequences get lately. Who is urgent but hopeless in the crowd that there is would only make others late.
 */
export function isOpen(job: Job, now: number, model: CostModel, policy: Policy, crowded: boolean): boolean {
  if (!job.bound) return false;
  const { end, first } = job.deadlines;
  if (end === Infinity && first !== Infinity && job.firstTokenAt === null) {
    return isFirstOpen(job, now, model, policy, crowded);
  }
  const paced = crowded
    ? TURN * (missingMs(job, job.min, model, planChunk(policy)) + stepsLeft(job, job.likely) * model.correction.paceMs)
    : 0;
  return now + Math.max(paced, aloneMs(job, job.min, model, policy)) <= end;
}

/** Whether the first token could still be in time: later, nothing is gained by hurrying. */
function isFirstOpen(job: Job, now: number, model: CostModel, policy: Policy, crowded: boolean): boolean {
  const { first } = job.deadlines;
  if (first === Infinity) return false;
  const ms = missingMs(job, job.min, model, planChunk(policy)) + loneStepMs(model, job.min, meanContext(job));
  return now + (crowded ? TURN : 1) * ms <= first;
}

/**
 * The instant by which a request should be served: the deadline that was promised while it can be made, else the
 * one that keeps it from starving.
 * @param open see isOpen
 */
export function serviceDeadline(job: Job, now: number, open: boolean, model: CostModel, policy: Policy): number {
  const { arrivedAt } = job.request;
  if (!open) {
    return virtualDeadline(arrivedAt, aloneMs(job, job.max, model, policy), policy);
  }
  const { first, end, tpot } = job.deadlines;
  // The first token is due before the answer: what comes first decides. One that is late by now is no deadline any more.
  const isDue = job.firstTokenAt === null && isFirstOpen(job, now, model, policy, false);
  const due = Math.min(end, isDue ? first : Infinity);
  if (due !== Infinity) return due;
  // Only a pace was asked for: nothing is late, and it takes its turn as if it had been given that pace. Or only a first
  // token, which is there: the rest must not starve.
  return tpot === Infinity
    ? virtualDeadline(arrivedAt, aloneMs(job, job.max, model, policy), policy)
    : arrivedAt + tpot * job.length;
}
