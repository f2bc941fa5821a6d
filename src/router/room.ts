/**
 * How much time a batch may spend above its cheapest plan without anybody being late.
 *
 * Knows: deadlines and the future at the shallowest exits. Must not know: what the time is spent on.
 */
import { type Batch, outlook, shallowest } from './batch.js';
import type { Forecast } from './forecast.js';
import type { Job } from './jobs.js';

/** `perStep * steps + once <= spare` must hold for every limit. */
interface Limit {
  readonly steps: number;
  readonly spare: number;
}

export type Room = readonly Limit[];

/** A job that misses by more than this share of the time it has left is given up: nobody goes shallower for it. */
const GIVE_UP = 0.1;

/** Whether a job misses a deadline, for good, at its likely length: how long it may well get is no reason to give up. */
export function isLate(job: Job, future: Forecast, index: number, now: number): boolean {
  const { deadlines, firstTokenAt, length, likely, request } = job;
  const first = future.first[index] ?? now;
  const end = future.end[index] ?? now;
  const unlikely = (length - likely) / Math.max(1, length - request.generated);
  const likelyEnd = end - unlikely * (end - first);
  const pace = (firstTokenAt ?? first) + deadlines.tpot * (likely - 1);
  const late = (instant: number, limit: number): boolean => instant - now > (limit - now) * (1 + GIVE_UP);
  return late(likelyEnd, Math.min(deadlines.end, pace)) || (firstTokenAt === null && late(first, deadlines.first));
}

/** Bound jobs that miss even if nobody else comes and every step is as cheap as predicted. */
export function lostOf(batch: Batch, bound: readonly Job[]): Set<Job> {
  const future = outlook(batch, bound, shallowest, 1);
  return new Set(bound.filter((job, i) => isLate(job, future, i, batch.state.now)));
}

/**
 * @param jobs with a budget, in the forecast's order
 * @param lost jobs that count for nothing
 * @param stretch what a planned millisecond counts with (margin, share of others): spare time is divided by it
 */
export function roomOf(
  jobs: readonly Job[],
  future: Forecast,
  lost: ReadonlySet<Job>,
  now: number,
  stretch: number,
): Room {
  const limits: Limit[] = [];
  jobs.forEach((job, i) => {
    if (lost.has(job)) return;
    const end = future.end[i] ?? now;
    const first = future.first[i] ?? now;
    const steps = Math.max(1, future.steps[i] ?? 1);
    const { deadlines, firstTokenAt, length } = job;
    const pace = firstTokenAt === null ? Infinity : firstTokenAt + deadlines.tpot * (length - 1);
    const due = Math.min(deadlines.end, pace);
    if (due !== Infinity) limits.push({ steps, spare: Math.max(0, due - end) / stretch });
    if (firstTokenAt !== null) return;
    if (deadlines.first !== Infinity) {
      const before = Math.max(1, steps - (job.length - job.request.generated - 1));
      limits.push({ steps: before, spare: Math.max(0, deadlines.first - first) / stretch });
    }
    if (deadlines.tpot !== Infinity && length > 1) {
      const own = length - 1;
      limits.push({ steps: own, spare: Math.max(0, deadlines.tpot * own - (end - first)) / stretch });
    }
  });
  return binding(limits);
}

/** Limits that another one implies are dropped: more steps within less spare time is the stricter. */
function binding(limits: readonly Limit[]): Room {
  const kept: Limit[] = [];
  let most = 0;
  for (const limit of [...limits].sort((a, b) => a.spare - b.spare || b.steps - a.steps)) {
    if (limit.steps <= most) continue;
    kept.push(limit);
    most = limit.steps;
  }
  return kept;
}

/** Whether the room holds `perStep` more milliseconds in every step and `once` more milliseconds in all. */
export function takes(room: Room, perStep: number, once: number): boolean {
  return room.every((limit) => perStep * limit.steps + once <= limit.spare);
}
