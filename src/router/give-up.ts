/**
 * Whose deadlines can't be kept: the fewest are late when the largest jobs are given up (Moore and Hodgson), those that
 * no time was held for first, then those whose callers were told nothing, promises last.
 *
 * Knows: jobs, the work by deadline. Must not know: depth.
 */
import type { Batch } from './batch.js';
import { type Job, stepsLeft } from './jobs.js';
import type { Levels } from './levels.js';
import { aloneAt, patience } from './tasks.js';
import type { Work } from './work.js';

/**
 * Takes the work of hopeless jobs out of the sums. At the likely lengths and without a margin: how long an answer may
 * well get is no reason to give it up.
 */
export function giveUp({ jobs, state }: Batch, work: Work, levels: Levels): Set<Job> {
  const { tasks, loads, used } = work;
  const lost = new Set<Job>();
  const planned = loads.steps.slice();
  jobs.forEach((job, i) => (loads.steps[i] = stepsLeft(job, job.likely)));
  const limits = tasks.map(({ job, due }) => patience(jobs[job], due, state.now));
  const rank = (job: number): number => aloneAt(job, loads, levels) + CLASS * classOf(jobs[job]);
  for (;;) {
    work.add();
    const late = tasks.findIndex(({ job }, i) => loads.counts[job] === 1 && (used[i] ?? 0) > (limits[i] ?? 0));
    if (late < 0) break;
    let largest = tasks[late]?.job ?? 0;
    for (const { job } of tasks.slice(0, late)) {
      if (loads.counts[job] === 1 && rank(job) > rank(largest)) largest = job;
    }
    loads.counts[largest] = 0;
    const given = jobs[largest];
    if (given !== undefined) lost.add(given);
  }
  loads.steps.set(planned);
  return lost;
}

/** Ranks a class above any work of the one before. */
const CLASS = 1e12;

/** 0 where the caller relies on the budget, 1 where plans only hold time for it, 2 where not even that. */
function classOf(job: Job | undefined): number {
  return job?.promised === false ? 2 : Number(job?.told === false);
}
