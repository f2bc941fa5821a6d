/**
 * The whole engine as jobs in order of service, and its future at any choice of exits.
 *
 * Knows: jobs, policy, forecast. Must not know: what is decided from it (admit, replan, chunk).
 */
import { deadlinesOf, virtualDeadline } from './deadlines.js';
import { type Forecast, type Load, forecast } from './forecast.js';
import { type Job, gapAt, jobOf, meanContext, missingMs, stepsLeft } from './jobs.js';
import type { CostModel } from './model.js';
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

/** Chunk size that plans assume: the largest that doesn't stall neighbours at any depth. */
export function planChunk(policy: Policy): number {
  return policy.chunks[Math.floor((policy.chunks.length - 1) * 0.6)] ?? 128;
}

/** `waiting` in order of service (order.ts). */
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

/** A job's work at an exit. */
export function loadOf(job: Job, exit: number, { model, policy }: Batch): Load {
  const chunk = planChunk(policy);
  const prefillMs = missingMs(job, exit, model, chunk);
  const held = job.live?.frontier[0] ?? 0;
  return {
    exit,
    prefillMs,
    chunks: job.prefilling ? Math.max(1, Math.ceil(gapAt(job, exit, model) / chunk)) : 0,
    steps: stepsLeft(job),
    holdsSlot: job.live !== null,
    held,
    positions: Math.max(0, job.request.promptLength + job.length - held),
  };
}

/** The future of the given jobs, each at its exit. */
export function outlook(batch: Batch, jobs: readonly Job[], exits: ArrayLike<number>, stretch: number): Forecast {
  const { state } = batch;
  const loads = jobs.map((job, i) => loadOf(job, exits[i] ?? job.min, batch));
  const room = { slots: state.slots - state.live.length, positions: state.kvRoom };
  return forecast(loads, room, state.now, batch.step, stretch);
}

/** What bound jobs pay for the share of those without a budget. */
export function stretchOf(jobs: readonly Job[], policy: Policy): number {
  return jobs.some((job) => !job.bound) ? 1 / (1 - policy.noBudgetShare) : 1;
}

/** Milliseconds that a request needs on an idle machine at an exit. */
export function aloneMs(job: Job, exit: number, model: CostModel, policy: Policy): number {
  const rows = new Int32Array(model.shape.exits.length);
  rows[exit] = 1;
  return missingMs(job, exit, model, planChunk(policy)) + stepsLeft(job) * stepTable(model, meanContext(job))(rows);
}

/**
 * The instant by which a request should be served: its deadline where an idle machine could still make it, else the
 * one that keeps it from starving.
 */
export function serviceDeadline(job: Job, now: number, model: CostModel, policy: Policy): number {
  const { arrivedAt, budget } = job.request;
  const alone = aloneMs(job, job.min, model, policy);
  const { first, end, tpot } = deadlinesOf(arrivedAt, budget, policy);
  // The first token is due before the answer: what comes first decides.
  const due = Math.min(end, job.firstTokenAt === null ? first : Infinity);
  if (job.bound && now + alone <= end) {
    if (due !== Infinity) return due;
    // Only a pace was asked for: the sooner it starts the better, but nothing is late.
    return arrivedAt + tpot * job.length;
  }
  return virtualDeadline(arrivedAt, aloneMs(job, job.max, model, policy), policy);
}
