/**
 * Whose deadlines can't be kept: the fewest are late when the largest jobs are given up (Moore and Hodgson), those that
 * nothing was promised to before those that something was.
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
  const rank = (job: number): number => aloneAt(job, loads, levels) + (jobs[job]?.promised === false ? UNPROMISED : 0);
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

/** Ranks what was not promised above any work. */
const UNPROMISED = 1e12;
