/**
 * Depth of every live sequence, again before every step, and who sits it out: shallower as soon as somebody would be
 * late, deeper where there is time, for the batch as a whole.
 *
 * Knows: the depth plan, shares. Must not know: the engine's slots and kernels.
 */
import { batchOf } from './batch.js';
import { isBlocked } from './crowd.js';
import { byInstant } from './deadlines.js';
import { type Job, stepsLeft } from './jobs.js';
import type { CostModel } from './model.js';
import { DepthPlan } from './plan.js';
import { type Row, mayRest, resting } from './rest.js';
import type { Policy, Replan, RouterState, SequenceState } from './types.js';

/** Who is that many steps from its end makes room for somebody soon, and costs the others little. */
const NEARLY = 8;

/** What changes, and the plan that it comes of, for whoever decides more in the same step. */
export interface Planned extends Replan {
  readonly plan: DepthPlan;
}

/** @param sequences the live ones; their exits are what is in force now */
export function replan(
  sequences: readonly SequenceState[],
  state: RouterState,
  model: CostModel,
  policy: Policy,
): Planned {
  const batch = batchOf({ ...state, live: sequences }, state.waiting, model, policy);
  const live = batch.jobs.slice(0, sequences.length);
  const plan = new DepthPlan(batch);
  const rows: Row[] = [];
  live.forEach((job, index) => {
    if (!job.prefilling) rows.push({ job, index });
  });

  const paused = admitUnbound(
    plan,
    rows.filter(({ job }) => plan.agenda.lost.has(job)),
    live,
  );
  plan.keep();
  paused.push(
    ...admitUnbound(
      plan,
      rows.filter(({ job }) => !job.bound),
      live,
    ),
  );
  plan.begin();
  plan.deepen(policy);
  putOff(plan, rows);
  const asleep = new Set(paused);
  const running = rows.filter(({ job }) => !asleep.has(job.request.id));
  paused.push(...resting(plan, running).map((job) => job.request.id));

  const exits: { id: string; exit: number }[] = [];
  live.forEach((job, i) => {
    const exit = plan.exits[i] ?? job.present;
    const layer = model.shape.exits[exit]?.layer;
    if (exit !== job.present && layer !== undefined) exits.push({ id: job.request.id, exit: layer });
  });
  return { exits, paused, plan };
}

/**
 * Takes back changes down whose catch-ups would hold up those who are due before: who rests needs no cheaper exit. Those
 * that are due first have the first say.
 */
function putOff({ agenda, batch, exits }: DepthPlan, rows: readonly Row[]): void {
  const due = (row: Row): number => agenda.dueOf(row.index);
  const changes = rows.filter(({ job, index }) => {
    const exit = exits[index] ?? job.present;
    return job.bound && !agenda.lost.has(job) && exit < job.present && batch.onceMs(index, exit) > 0;
  });
  let spent = 0;
  for (const row of changes.sort((a, b) => byInstant(due(a), due(b)))) {
    const { job, index } = row;
    const onceMs = batch.onceMs(index, exits[index] ?? job.present);
    const mayStay = mayRest(job) && job.present <= job.max;
    if (mayStay && agenda.spareBefore(due(row), index, false) < spent + onceMs) exits[index] = job.present;
    else spent += onceMs;
  }
}

/**
 * Sequences that nothing was promised to ride along where there is time; else they pause until their share is due.
 * @returns ids of the paused
 */
function admitUnbound(plan: DepthPlan, rows: readonly Row[], live: readonly Job[]): string[] {
  const { agenda, batch, exits } = plan;
  const { state, policy } = batch;
  if (rows.length === 0) return [];
  // Pausing gives its time to those who run; where nobody is promised anything, everybody runs.
  const promised = live.filter((job) => job.bound && !agenda.lost.has(job));
  if (!promised.some((job) => !job.prefilling)) return [];
  const blocked = isBlocked(state);
  const counts = new Int32Array(batch.model.shape.exits.length);
  return rows.flatMap(({ job, index }) => {
    const exit = exits[index] ?? job.max;
    if (agenda.ride(exit) || (blocked && stepsLeft(job, job.likely) <= NEARLY)) return [];
    counts.fill(0);
    counts[exit] = 1;
    const stepMs = batch.step(counts);
    const idleMs = state.now - (job.live?.lastTokenAt ?? job.request.arrivedAt);
    const due = idleMs + stepMs >= stepMs / policy.noBudgetShare;
    // Promises that are older than the request go before: they were made without counting on it.
    const older = promised.some((each) => each.request.arrivedAt <= job.request.arrivedAt);
    return due && !older ? [] : [job.request.id];
  });
}
