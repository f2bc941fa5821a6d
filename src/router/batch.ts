/**
 * The whole engine as jobs in order of service, and its future at any choice of exits.
 *
 * Knows: jobs, policy, forecast. Must not know: what is decided from it (admit, replan, chunk).
 */
import { virtualDeadline } from './deadlines.js';
import { type Forecast, type Load, forecast } from './forecast.js';
import { type Job, gapAt, jobOf, meanContext, missingMs, stepsLeft } from './jobs.js';
import type { CostModel } from './model.js';
import { planChunk } from './policy.js';
import { type StepMs, stepTable } from './steps.js';
import type { Policy, RouterState, WaitingRequest } from './types.js';

export interface Batch {
  /** Live ones as given, then the waiting, in order of service. */
  readonly jobs: readonly Job[];
  readonly step: StepMs;
  readonly state: RouterState;
  readonly model: CostModel;
  readonly policy: Policy;
}

/** @param waiting in order of service (order.ts) */
export function batchOf(
  state: RouterState,
  waiting: readonly WaitingRequest[],
  model: CostModel,
  policy: Policy,
): Batch {
  const jobs = [
    ...state.live.map((sequence) => jobOf(sequence, sequence, model, state.lengths, policy)),
    ...waiting.map((request) => jobOf(request, null, model, state.lengths, policy)),
  ];
  let context = 0;
  for (const job of jobs) context += meanContext(job);
  return { jobs, step: stepTable(model, jobs.length === 0 ? 0 : context / jobs.length), state, model, policy };
}

/** A job's work at an exit, up to a length. */
export function loadOf(job: Job, exit: number, { model, policy }: Batch, length: number = job.length): Load {
  const chunk = planChunk(policy);
  const prefillMs = missingMs(job, exit, model, chunk);
  const held = job.live?.frontier[0] ?? 0;
  return {
    exit,
    prefillMs,
    chunks: job.prefilling ? Math.max(1, Math.ceil(gapAt(job, exit, model) / chunk)) : 0,
    steps: stepsLeft(job, length),
    holdsSlot: job.live !== null,
    held,
    positions: Math.max(0, job.request.promptLength + length - held),
  };
}

/** The future of the given jobs, each at its exit and up to its planned (or likely) length. */
export function outlook(
  batch: Batch,
  jobs: readonly Job[],
  exitOf: (job: Job) => number,
  stretch: number,
  lengthOf: (job: Job) => number = (job) => job.length,
  step: StepMs = batch.step,
): Forecast {
  const { state } = batch;
  const loads = jobs.map((job) => loadOf(job, exitOf(job), batch, lengthOf(job)));
  const room = { slots: state.slots - state.live.length, positions: state.kvRoom };
  return forecast(loads, room, state.now, step, stretch);
}

/** What a planned millisecond counts with: the margin, and the share of those that nothing is promised to. */
export function stretchOf(jobs: readonly Job[], policy: Policy): number {
  return (1 + policy.margin) * (jobs.some((job) => !job.bound) ? shareStretch(policy) : 1);
}

/** What bound jobs pay when others get their share. */
export function shareStretch(policy: Policy): number {
  return 1 / (1 - policy.noBudgetShare);
}

/** For outlook: everybody at the shallowest exit allowed. */
export const shallowest = (job: Job): number => job.min;

/** Milliseconds that a request most likely needs on an idle machine at an exit. */
export function aloneMs(job: Job, exit: number, model: CostModel, policy: Policy): number {
  const rows = new Int32Array(model.shape.exits.length);
  rows[exit] = 1;
  return (
    missingMs(job, exit, model, planChunk(policy)) +
    stepsLeft(job, job.likely) * stepTable(model, meanContext(job))(rows)
  );
}

/** Whether a request has a budget that an idle machine could still make at its likely length. */
function isPossible(job: Job, now: number, model: CostModel, policy: Policy): boolean {
  return (job.bound || job.hurried) && now + aloneMs(job, job.min, model, policy) <= job.deadlines.end;
}

/**
 * The instant by which a request should be served: its deadline while that can be made, else the one that keeps it
 * from starving.
 */
export function serviceDeadline(job: Job, now: number, model: CostModel, policy: Policy): number {
  const { arrivedAt } = job.request;
  if (!isPossible(job, now, model, policy)) {
    return virtualDeadline(arrivedAt, aloneMs(job, job.max, model, policy), policy);
  }
  const { first, end, tpot } = job.deadlines;
  // The first token is due before the answer: what comes first decides.
  const due = Math.min(end, job.firstTokenAt === null ? first : Infinity);
  // Only a pace was asked for: nothing is late, and it takes its turn as if it had been given that pace.
  return due === Infinity ? arrivedAt + tpot * job.length : due;
}
