/**
 * What is due when: every job with a budget as one or two tasks by rising deadline, and how much it asks of the machine.
 *
 * Knows: jobs, deadlines, what a job's work costs at its shallowest. Must not know: whether it all fits.
 */
import { flags, floats, integers } from './arrays.js';
import { type Batch, stretchOf } from './batch.js';
import { type Job, pacedEnd, stepsLeft } from './jobs.js';
import { type Levels, tokenMs } from './levels.js';

/** A job's prompt, or the decode steps after it. */
export interface Task {
  /** Index into the batch's jobs. */
  readonly job: number;
  readonly isPrompt: boolean;
  readonly due: number;
  /** Milliseconds of planned work that fit before it is due. */
  readonly open: number;
  /** The same from its arrival on: what reserves are a share of. */
  readonly whole: number;
}

/**
 * A job that misses by more than this share of the time it has left, and of all the time that it had, is given up:
 * nobody goes shallower for it.
 */
const GIVE_UP = 0.1;
const GIVE_UP_ALL = 0.02;

/** A job's work as sums see it. */
export interface Loads {
  /** By job: exit that its work is counted at, prefill or catch-up there in ms, decode steps left. */
  readonly exits: Int32Array;
  readonly once: Float64Array;
  readonly steps: Float64Array;
  /** By job: whether its work counts. */
  readonly counts: Uint8Array;
  /**
   * By job: whether what it needs once is a catch-up. Where it is decided on, it happens in the next step, whoever is due
   * before; until then it is due with the job's own steps.
   */
  readonly atOnce: Uint8Array;
}

/** Everybody at the exit that asks least of the machine: the shallowest, or the present one where changing costs more. */
export function leastLoads({ jobs, onceMs }: Batch, levels: Levels): Loads {
  const loads: Loads = {
    exits: integers(jobs, ({ min }) => min),
    once: new Float64Array(jobs.length),
    steps: floats(jobs, (job) => stepsLeft(job)),
    counts: flags(jobs, ({ bound }) => bound),
    atOnce: flags(jobs, ({ prefilling }) => !prefilling),
  };
  jobs.forEach((job, i) => {
    if (!job.bound) return;
    const change = onceMs(i, job.min);
    loads.once[i] = change;
    if (job.prefilling || change === 0 || job.present > job.max) return;
    const stays = onceMs(i, job.present);
    const stepsMs = (exit: number): number => (loads.steps[i] ?? 0) * tokenMs(levels, exit, 1);
    if (stays + stepsMs(job.present) >= change + stepsMs(job.min)) return;
    loads.exits[i] = job.present;
    loads.once[i] = stays;
  });
  return loads;
}

/** @returns by rising deadline, a prompt before the decode steps of the same job */
export function tasksOf({ jobs, state, policy }: Batch, loads: Loads, levels: Levels): Task[] {
  const stretch = stretchOf(jobs, policy);
  const ahead = jobs.reduce((sum, { prefilling }, i) => sum + (prefilling ? (loads.once[i] ?? 0) : 0), 0);
  const tasks: Task[] = [];
  jobs.forEach((job, index) => {
    if (!job.bound) return;
    const { first, end } = job.deadlines;
    const due = Math.min(end, pacedEnd(job, job.firstTokenAt ?? state.now + ahead));
    const push = (isPrompt: boolean, at: number): void => {
      const left = Math.max(0, at - state.now);
      const whole = at === Infinity ? 0 : Math.max(0, at - job.request.arrivedAt) / stretch;
      tasks.push({ job: index, isPrompt, due: at, open: left / stretch, whole });
    };
    if (!job.prefilling) {
      push(false, due);
      return;
    }
    const ready = due - (loads.steps[index] ?? 0) * tokenMs(levels, job.min, 1);
    const begin = job.firstTokenAt === null ? Math.min(first - tokenMs(levels, job.min, 1), ready) : ready;
    push(true, begin);
    push(false, Math.max(begin, due));
  });
  return tasks.sort((a, b) => a.due - b.due || a.job - b.job || Number(b.isPrompt) - Number(a.isPrompt));
}

/** Milliseconds that a job's work takes alone, at the exit that it is counted at. */
export function aloneAt(job: number, { exits, once, steps }: Loads, levels: Levels): number {
  return (once[job] ?? 0) + (steps[job] ?? 0) * tokenMs(levels, exits[job] ?? 0, 1);
}

/** Milliseconds after which a job counts as late for good. */
export function patience(job: Job | undefined, due: number, now: number): number {
  const whole = due - (job?.request.arrivedAt ?? now);
  return Math.max(Math.max(0, due - now) * (1 + GIVE_UP), due - now + whole * GIVE_UP_ALL);
}
