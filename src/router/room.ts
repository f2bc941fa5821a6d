/**
 * Whether a budget has room among those that are promised, and the least one that would have.
 *
 * Knows: the agenda with the request in it. Must not know: depths, predictions, what is made of it (admit.ts).
 */
import { Agenda } from './agenda.js';
import { type Batch, stretchOf } from './batch.js';
import type { Job } from './jobs.js';
import { marginOf } from './promises.js';
import { promptMs } from './steps.js';
import type { RouterState } from './types.js';

/** How many times the work due must fit before a promise is made by room. */
export function careful({ learned, now }: RouterState): number {
  return 1 + marginOf(learned.promises, now);
}

/** How many times its budget holds what is due by then, everybody at their shallowest; 0 where it takes another's. */
export function roomFor(batch: Batch, self: number): number {
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
 * @returns null where none was found: what keeps arriving may leave no room for any
 */
export function leastFeasible(batch: Batch, self: number): number | null {
  const { policy, state, jobs } = batch;
  const wouldDo = (waitMs: number): boolean => roomFor(dueAt(batch, self, state.now + waitMs), self) >= careful(state);
  let most = lastMs(batch, self);
  let least = 0;
  let tries = jobs.length > MANY ? 2 : TRIES;
  // What is expected to arrive meanwhile is not in it, and others may be due later still.
  while (!wouldDo(most)) {
    tries -= 1;
    if (tries === 0) return null;
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
