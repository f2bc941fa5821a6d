/**
 * Depth of every request with a budget, as deep as the agenda has time for.
 *
 * Knows: the agenda, what an exit is worth. Must not know: who runs in this step, the engine's slots and kernels.
 *
 * All rows share the machine, so a budget doesn't buy depth for its own row: it limits the milliseconds that are spent
 * before its deadline. Those milliseconds go where they buy most quality: some requests go all the way, others stay,
 * where exits in between are worth less for what they cost (ladder.ts).
 */
import { Agenda } from './agenda.js';
import { integers } from './arrays.js';
import { type Batch, batchOf } from './batch.js';
import type { Job } from './jobs.js';
import { rungsOf } from './ladder.js';
import { tokenMs } from './levels.js';
import { priceOf, worthOf } from './worth.js';
import type { CostModel } from './model.js';
import type { Policy, RouterState } from './types.js';

/**
 * Share of every budget that must be left over for depth that is in force, for depth that a prompt begins with, and for
 * depth that is only taken up in mid-answer. Depth that is soon given up again was paid for in vain, and catching up
 * costs a prefill, so what was begun is kept, and little is begun late.
 */
const KEEP = 0.05;
const BEGIN = 0.25;
const DEEPEN = 0.8;

/** The plan of a step in which nobody's exit changes. */
export function planAsIs(state: RouterState, model: CostModel, policy: Policy): DepthPlan {
  const plan = new DepthPlan(batchOf(state, state.waiting, model, policy));
  plan.hold();
  return plan;
}

export class DepthPlan {
  readonly agenda: Agenda;
  /** By job of the batch. */
  readonly exits: Int32Array;
  readonly #price: number;

  constructor(readonly batch: Batch) {
    this.agenda = new Agenda(batch);
    this.#price = priceOf(batch, this.agenda.levels);
    this.exits = integers(batch.jobs, (job, i) => {
      if (!job.bound) return job.max;
      return this.agenda.lost.has(job) ? job.min : this.agenda.exitOf(i);
    });
  }

  /** Up to the exits that are in force: that costs no catch-up and no change of mind. */
  keep(): void {
    this.#raise(
      (job) => (job.prefilling ? -1 : Math.min(job.max, job.present)),
      KEEP,
      (job) => job.present,
    );
  }

  /** Everybody up to the exit that is in force, prompts too: what is left is free for other things than depth. */
  hold(): void {
    this.#raise(
      (job) => Math.min(job.max, job.present),
      KEEP,
      (job) => job.present,
    );
  }

  /** Those that don't decode yet: deeper costs prefill, but no change of mind. */
  begin(): void {
    this.#raise((job) => (job.prefilling ? job.max : -1), BEGIN);
  }

  /** Beyond the exits that are in force: with catch-up, and only with time to spare. */
  deepen({ dwellTokens }: Policy): void {
    this.#raise((job) => (!job.prefilling && (job.live?.tokensAtExit ?? 0) >= dwellTokens ? job.max : -1), DEEPEN);
  }

  /** @param topOf deepest exit that a job may get to now, at most its exit where nothing may change */
  #raise(topOf: (job: Job) => number, reserve: number, only?: (job: Job) => number): void {
    const { jobs } = this.batch;
    const { agenda, exits } = this;
    const ranked: number[] = [];
    const worth = new Float64Array(jobs.length);
    jobs.forEach((job, i) => {
      const top = topOf(job);
      if (!job.bound || top <= (exits[i] ?? 0) || agenda.lost.has(job)) return;
      // What can't be paid for need not be priced: 13% of a step's planning.
      if (only === undefined && !this.#isOpen(i, (exits[i] ?? 0) + 1, reserve)) return;
      ranked.push(i);
      worth[i] = this.#worthOf(i, top);
    });
    ranked.sort((a, b) => (worth[b] ?? 0) - (worth[a] ?? 0) || a - b);
    const price = only === undefined ? this.#price : 0;
    for (const i of ranked) {
      if ((worth[i] ?? 0) < price) break;
      const job = jobs[i];
      if (job === undefined) continue;
      const from = exits[i] ?? 0;
      const top = topOf(job);
      const rungs = only === undefined ? this.#rungs(i, top, reserve) : [Math.min(top, only(job))];
      for (const exit of rungs) {
        if (exit <= from || !agenda.raise(i, exit, this.batch.onceMs(i, exit), reserve)) continue;
        exits[i] = exit;
        break;
      }
    }
  }

  /** Whether a job could pay for its tokens at an exit, if it were alone and there were no more to it: as at all deeper ones. */
  #isOpen(i: number, exit: number, reserve: number): boolean {
    const { agenda } = this;
    return agenda.stepsOf(i) * tokenMs(agenda.levels, exit, 1) <= agenda.spendableOf(i, reserve);
  }

  /** Exits worth trying, deepest first: those that the job could pay for alone, along the ladder. */
  #rungs(i: number, top: number, reserve: number): number[] {
    const { agenda } = this;
    const from = this.exits[i] ?? 0;
    const steps = agenda.stepsOf(i);
    const open = agenda.spendableOf(i, reserve);
    let deepest = top;
    const aloneMs = (exit: number): number => this.batch.onceMs(i, exit) + steps * tokenMs(agenda.levels, exit, 1);
    while (deepest > from && aloneMs(deepest) > open) deepest -= 1;
    return rungsOf(this.batch.model.shape, agenda.levels, from, deepest).reverse();
  }

  /** What going from its exit to a deeper one is worth to a job. */
  #worthOf(i: number, to: number): number {
    const { agenda, batch } = this;
    const from = this.exits[i] ?? 0;
    const once = batch.onceMs(i, to) - batch.onceMs(i, from);
    return worthOf(batch, agenda.levels, from, to, agenda.stepsOf(i), once);
  }
}
