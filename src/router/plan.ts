/**
 * Depth of every request with a budget, level by level, as deep as the agenda has time for.
 *
 * Knows: the agenda. Must not know: who runs in this step, the engine's slots and kernels.
 *
 * All rows share the machine, so a budget doesn't buy depth for its own row: it limits the milliseconds that are spent
 * before its deadline. Levels rise for all together, since each further one is worth less than the one before, those
 * with the latest deadlines first: what they take costs only those who are due even later.
 */
import { Agenda } from './agenda.js';
import { type Batch, loadOf } from './batch.js';
import { type Job, missingMs } from './jobs.js';
import type { CostModel } from './model.js';
import type { Policy } from './types.js';

export class DepthPlan {
  readonly agenda: Agenda;
  /** By job of the batch. */
  readonly exits: Int32Array;

  constructor(readonly batch: Batch) {
    this.agenda = new Agenda(batch);
    this.exits = Int32Array.from(batch.jobs, (job) => (job.bound || job.hurried ? job.min : job.max));
  }

  /** Up to the exits that are in force: that costs no catch-up and no change of mind. */
  keep(): void {
    this.#raise((job) => (job.prefilling ? job.min : Math.min(job.max, job.present)), 0);
  }

  /** Everybody up to the exit that is in force, prompts too: what is left is free for other things than depth. */
  hold(): void {
    this.#raise((job) => Math.min(job.max, job.present), 0);
  }

  /** Those that don't decode yet: deeper costs prefill, but no change of mind. */
  begin(): void {
    this.#raise((job) => (job.prefilling ? job.max : job.min), 0);
  }

  /** Beyond the exits that are in force: with catch-up, and only with time to spare. */
  deepen({ dwellTokens, hysteresis }: Policy): void {
    this.#raise(
      (job) => (!job.prefilling && (job.live?.tokensAtExit ?? 0) >= dwellTokens ? job.max : job.min),
      hysteresis,
    );
  }

  #raise(topOf: (job: Job) => number, spare: number): void {
    const { jobs, model } = this.batch;
    const { agenda, exits } = this;
    const ranked = [...jobs.keys()].filter((i) => {
      const job = jobs[i];
      return job?.bound === true && !agenda.lost.has(job) && topOf(job) > (exits[i] ?? 0);
    });
    ranked.sort((a, b) => loose(jobs[b]) - loose(jobs[a]) || a - b);
    for (let level = 1; level < model.shape.exits.length; level += 1) {
      for (const i of ranked) {
        const job = jobs[i];
        const from = exits[i] ?? 0;
        if (job === undefined || level > topOf(job) || level <= from || !isBetter(model, level, from)) continue;
        if (agenda.raise(i, level, this.#onceOf(job, level), spare)) exits[i] = level;
      }
    }
  }

  /** Work that only this exit asks for, once: prefill or catch-up. */
  #onceOf(job: Job, exit: number): number {
    const { batch } = this;
    return job.prefilling
      ? loadOf(job, exit, batch).prefillMs
      : missingMs(job, exit, batch.model, batch.policy.chunks.at(-1) ?? 128);
  }
}

function loose(job: Job | undefined): number {
  return job === undefined ? 0 : Math.min(job.deadlines.end, job.request.arrivedAt + job.deadlines.tpot * job.length);
}

function isBetter({ shape }: CostModel, exit: number, than: number): boolean {
  return (shape.exits[exit]?.quality ?? 0) > (shape.exits[than]?.quality ?? 0);
}
