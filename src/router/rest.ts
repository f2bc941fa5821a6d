/**
 * Who sits a step out so that those who are due earlier get the pace that they need: running everybody at once makes
 * everybody late together, and whoever is due later catches up when the others are done.
 *
 * Knows: the depth plan. Must not know: requests that nothing was promised to (replan.ts).
 */
import type { Batch } from './batch.js';
import { type Job, expectedOf, gapAt, pacedEnd, stepsLeft } from './jobs.js';
import type { DepthPlan } from './plan.js';
import { planChunk } from './policy.js';

/** A live sequence that could decode, and its place among the batch's jobs. */
export interface Row {
  readonly job: Job;
  readonly index: number;
}

/** Whether a job that something was promised to may sit steps out: a pace has to be held all along. */
export function mayRest({ deadlines }: Job): boolean {
  return deadlines.tpot === Infinity;
}

/** @returns the rows that rest; never the one that is due first */
export function resting(plan: DepthPlan, rows: readonly Row[]): Job[] {
  const { batch, agenda, exits } = plan;
  const counts = new Int32Array(batch.model.shape.exits.length);
  const add = ({ index }: Row, by: number): void => {
    const exit = exits[index] ?? 0;
    counts[exit] = (counts[exit] ?? 0) + by;
  };
  for (const row of rows) add(row, 1);
  // Only a first token was asked for, and it is there: the rest has its turn like what has no budget.
  const dueOf = ({ job }: Row): number => (job.deadlines.end === Infinity ? batch.due(job) : job.deadlines.end);
  const able = rows
    .filter(({ job }) => job.bound && !agenda.lost.has(job) && mayRest(job))
    .sort((a, b) => dueOf(a) - dueOf(b));
  if (able.length === 0) return [];
  const paces = pacesOf(batch, plan);
  const newest = rows.reduce((most, { job }) => Math.max(most, job.live?.lastTokenAt ?? 0), 0);
  const rested: Job[] = [];
  for (let last = able.length - 1; last >= 0; last -= 1) {
    const row = able[last];
    if (row === undefined) break;
    const stepMs = batch.step(counts);
    // Who rested in the last step comes back only when there is time to spare: coming and going moves slots.
    const slept = (row.job.live?.lastTokenAt ?? newest) < newest;
    const wanted = slept ? stepMs * (1 + batch.policy.hysteresis) : stepMs;
    const own = dueOf(row);
    const pressed = paces.some(({ due, stepMs: limit }) => due < own && limit < wanted);
    if (!pressed) continue;
    add(row, -1);
    rested.push(row.job);
  }
  return rested;
}

/** An instant by which a job's first token, or all that is left of it, must be there. */
interface Goal {
  readonly index: number;
  readonly isFirst: boolean;
  readonly due: number;
}

function goalsOf(job: Job, index: number): Goal[] {
  const { firstTokenAt, deadlines } = job;
  const end = Math.min(deadlines.end, firstTokenAt === null ? Infinity : pacedEnd(job, firstTokenAt));
  const first = job.prefilling && firstTokenAt === null ? deadlines.first : Infinity;
  return [
    { index, isFirst: true, due: first },
    { index, isFirst: false, due: end },
  ].filter(({ due }) => due < Infinity);
}

/** The longest step that each job with a deadline can bear until it is done, the prompts before it paid for. */
function pacesOf(batch: Batch, { agenda, exits }: DepthPlan): { due: number; stepMs: number }[] {
  const { jobs, state, policy } = batch;
  // Who waits for a slot gains nothing by the rest of those who hold one.
  const goals = jobs.flatMap((job, i) =>
    job.bound && job.live !== null && !agenda.lost.has(job) ? goalsOf(job, i) : [],
  );
  goals.sort((a, b) => a.due - b.due);
  const chunk = planChunk(policy);
  const paid = new Set<number>();
  let prompts = 0;
  return goals.flatMap(({ index, isFirst, due }) => {
    const job = jobs[index];
    if (job === undefined) return [];
    const exit = exits[index] ?? job.min;
    if (!paid.has(index)) prompts += batch.onceMs(index, exit);
    paid.add(index);
    const chunks = job.prefilling
      ? Math.max(1, Math.ceil(gapAt(job, exit, batch.model, expectedOf(job)) / chunk), job.target / chunk)
      : 0;
    // With the last chunk it decodes already.
    const steps = job.prefilling ? chunks + (isFirst ? 0 : Math.max(0, stepsLeft(job) - 1)) : stepsLeft(job);
    if (steps <= 0) return [];
    const left = (due - state.now) / (1 + policy.margin) - prompts;
    return left <= 0 ? [] : [{ due, stepMs: left / steps }];
  });
}
