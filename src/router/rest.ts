/**
 * Who sits a step out so that those who are due earlier get the pace that they need: running everybody at once makes
 * everybody late together, and whoever is due later catches up when the others are done.
 *
 * Knows: the depth plan. Must not know: requests that nothing was promised to (replan.ts).
 */
import type { Batch } from './batch.js';
import { type Job, gapAt, stepsLeft } from './jobs.js';
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
  const able = rows
    .filter(({ job }) => job.bound && !agenda.lost.has(job) && mayRest(job))
    .sort((a, b) => a.job.deadlines.end - b.job.deadlines.end);
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
    const pressed = paces.some(({ due, stepMs: limit }) => due < row.job.deadlines.end && limit < wanted);
    if (!pressed) continue;
    add(row, -1);
    rested.push(row.job);
  }
  return rested;
}

/** The longest step that each job with a deadline can bear until it is done, the prompts before it paid for. */
function pacesOf(batch: Batch, { agenda, exits }: DepthPlan): { due: number; stepMs: number }[] {
  const { jobs, state, policy } = batch;
  // Who waits for a slot gains nothing by the rest of those who hold one.
  const bound = [...jobs.keys()].filter((i) => {
    const job = jobs[i];
    return job?.bound === true && job.live !== null && !agenda.lost.has(job);
  });
  bound.sort((a, b) => (jobs[a]?.deadlines.end ?? 0) - (jobs[b]?.deadlines.end ?? 0));
  const chunk = planChunk(policy);
  let prompts = 0;
  return bound.flatMap((i) => {
    const job = jobs[i];
    if (job === undefined) return [];
    const exit = exits[i] ?? job.min;
    prompts += batch.onceMs(i, exit);
    const chunks = job.prefilling
      ? Math.max(1, Math.ceil(gapAt(job, exit, batch.model) / chunk), job.target / chunk)
      : 0;
    const steps = stepsLeft(job) + chunks;
    const due = job.deadlines.end;
    if (due === Infinity || steps <= 0) return [];
    const left = (due - state.now) / (1 + policy.margin) - prompts;
    return left <= 0 ? [] : [{ due, stepMs: left / steps }];
  });
}
