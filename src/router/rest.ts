/**
 * Who sits a step out so that those who are due earlier get the pace that they need: running everybody at once makes
 * everybody late together, and whoever is due later catches up when the others are done.
 *
 * Knows: the depth plan. Must not know: requests that nothing was promised to (replan.ts).
 */
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
  const paces = pacesOf(plan);
  const newest = rows.reduce((most, { job }) => Math.max(most, job.live?.lastTokenAt ?? 0), 0);
  const rested: Job[] = [];
  let stepMs = batch.step(counts);
  // From the latest on, so that the paces that are due before a row get fewer from one to the next.
  let before = paces.length;
  for (let last = able.length - 1; last >= 0; last -= 1) {
    const row = able[last];
    if (row === undefined) break;
    // Who rested in the last step comes back only when there is time to spare: coming and going moves slots.
    const slept = (row.job.live?.lastTokenAt ?? newest) < newest;
    const wanted = slept ? stepMs * (1 + batch.policy.hysteresis) : stepMs;
    const own = dueOf(row);
    while (before > 0 && (paces[before - 1]?.due ?? 0) >= own) before -= 1;
    const isPressed = (paces[before - 1]?.leastMs ?? Infinity) < wanted;
    if (!isPressed) continue;
    add(row, -1);
    stepMs = batch.step(counts);
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

/** By rising instant. Who waits for a slot has none: it gains nothing by the rest of those who hold one. */
function goalsOf({ batch, agenda }: DepthPlan): Goal[] {
  const goals: Goal[] = [];
  batch.jobs.forEach((job, index) => {
    const { bound, live, firstTokenAt, deadlines, prefilling } = job;
    if (!bound || live === null || agenda.lost.has(job)) return;
    const first = prefilling && firstTokenAt === null ? deadlines.first : Infinity;
    const end = Math.min(deadlines.end, firstTokenAt === null ? Infinity : pacedEnd(job, firstTokenAt));
    if (first < Infinity) goals.push({ index, isFirst: true, due: first });
    if (end < Infinity) goals.push({ index, isFirst: false, due: end });
  });
  return goals.sort((a, b) => a.due - b.due);
}

/** What those can bear who are due by an instant. */
interface Pace {
  readonly due: number;
  /** Longest step that all of them can bear until they are done, the prompts before them paid for. */
  readonly leastMs: number;
}

/** By rising instant, so that the last one before an instant says what all those before it can bear. */
function pacesOf(plan: DepthPlan): Pace[] {
  const { batch, exits } = plan;
  const { jobs, state, policy, model } = batch;
  const chunk = planChunk(policy);
  const paid = new Uint8Array(jobs.length);
  let prompts = 0;
  let leastMs = Infinity;
  const paces: Pace[] = [];
  for (const { index, isFirst, due } of goalsOf(plan)) {
    const job = jobs[index];
    if (job === undefined) continue;
    const exit = exits[index] ?? job.min;
    if (paid[index] === 0) prompts += batch.onceMs(index, exit);
    paid[index] = 1;
    const gap = gapAt(job, exit, model, expectedOf(job));
    const chunks = job.prefilling ? Math.max(1, Math.ceil(gap / chunk), job.target / chunk) : 0;
    // With the last chunk it decodes already.
    const steps = job.prefilling ? chunks + (isFirst ? 0 : Math.max(0, stepsLeft(job) - 1)) : stepsLeft(job);
    const left = (due - state.now) / (1 + policy.margin) - prompts;
    if (steps <= 0 || left <= 0) continue;
    leastMs = Math.min(leastMs, left / steps);
    paces.push({ due, leastMs });
  }
  return paces;
}
