/**
 * Depth of every live sequence, again before every step: shallower as soon as somebody would be late, deeper where
 * there is time, for the batch as a whole.
 *
 * Knows: the batch's future at everybody's shallowest exit. Must not know: the engine's slots and kernels.
 *
 * All rows share a step, so a budget doesn't buy depth for its own row: it limits the milliseconds that all rows
 * together may spend above their shallowest. What is left until the tightest deadline, spread over the steps until
 * then, is the room; rows are raised level by level while it lasts, those with the loosest budgets first.
 */
import { type Batch, batchOf, loadOf, outlook, shallowest, stretchOf } from './batch.js';
import { companyOf, inCompany } from './company.js';
import { noDemand } from './demand.js';
import { type Job, missingMs } from './jobs.js';
import type { CostModel } from './model.js';
import { type Room, isLate, lostOf, roomOf, takes } from './room.js';
import type { Policy, Replan, RouterState, SequenceState } from './types.js';

/** @param sequences the live ones; their exits are what is in force now */
export function replan(
  sequences: readonly SequenceState[],
  state: RouterState,
  model: CostModel,
  policy: Policy,
): Replan {
  if (sequences.length === 0) return { exits: [], paused: [] };
  const batch = batchOf({ ...state, live: sequences }, state.waiting, model, policy);
  const live = batch.jobs.slice(0, sequences.length);
  const plan = new Plan(batch, live);

  const decoding = live.filter((job) => !job.prefilling);
  const paused = plan.admitUnbound(decoding.filter((job) => job.hurried));
  plan.raise(
    decoding.filter((job) => job.bound),
    'keep',
  );
  paused.push(...plan.admitUnbound(decoding.filter((job) => !job.bound && !job.hurried)));
  plan.raise(
    live.filter((job) => job.bound && job.prefilling),
    'fresh',
  );
  plan.raise(
    live.filter((job) => job.bound && !job.prefilling && mayDeepen(job, policy)),
    'deepen',
  );

  const exits = live.flatMap((job, i) => {
    const exit = plan.exits[i] ?? job.present;
    const layer = model.shape.exits[exit]?.layer;
    return exit === job.present || layer === undefined ? [] : [{ id: job.request.id, exit: layer }];
  });
  return { exits, paused };
}

function mayDeepen(job: Job, policy: Policy): boolean {
  return (job.live?.tokensAtExit ?? 0) >= policy.dwellTokens;
}

type Pass =
  /** Up to the exit that is in force: costs no catch-up. */
  | 'keep'
  /** Not decoding yet: a deeper exit costs prefill, but no change of mind. */
  | 'fresh'
  /** Beyond the exit that is in force: catch-up, and only with room to spare. */
  | 'deepen';

/** Exits under construction, and the room that they leave. */
class Plan {
  readonly exits: Int32Array;
  readonly #batch: Batch;
  readonly #live: readonly Job[];
  readonly #rows: Int32Array;
  readonly #room: Room;
  readonly #hopeless: ReadonlySet<Job>;
  readonly #baseMs: number;
  #onceMs = 0;

  constructor(batch: Batch, live: readonly Job[]) {
    this.#batch = batch;
    this.#live = live;
    const { policy } = batch;
    this.exits = Int32Array.from(live, (job) => (job.bound || job.hurried || policy.shedDepth ? job.min : job.max));
    this.#rows = new Int32Array(batch.model.shape.exits.length);
    live.forEach((job, i) => {
      if (job.bound && !job.prefilling) this.#add(this.exits[i] ?? 0, 1);
    });
    this.#baseMs = batch.step(this.#rows);

    const { room, hopeless } = spareOf(batch);
    this.#room = room;
    this.#hopeless = hopeless;
  }

  /** Raises jobs level by level, loosest first, until the room is used up. */
  raise(jobs: readonly Job[], pass: Pass): void {
    const { model, policy } = this.#batch;
    const ranked = jobs.filter((job) => !this.#hopeless.has(job)).sort((a, b) => loose(b) - loose(a));
    const stuck = new Set<Job>();
    for (let level = 1; level < model.shape.exits.length; level += 1) {
      for (const job of ranked) {
        const i = this.#live.indexOf(job);
        const from = this.exits[i] ?? 0;
        const top = pass === 'keep' ? Math.min(job.max, job.present) : job.max;
        if (level > top || level <= from || stuck.has(job)) continue;
        if (!isBetter(model, level, from)) continue;
        const once = this.#onceOf(job, level) - this.#onceOf(job, from);
        if (this.#fits(job, from, level, once, pass === 'deepen' ? 1 + policy.hysteresis : 1)) {
          this.exits[i] = level;
        } else if (pass === 'fresh') stuck.add(job);
        else return;
      }
    }
  }

  /**
   * Sequences that nothing was promised to ride along where the room allows; else they pause until their share is due.
   * @returns ids of the paused
   */
  admitUnbound(jobs: readonly Job[]): string[] {
    const { state, policy } = this.#batch;
    const paused: string[] = [];
    // Pausing gives its time to those who run; where nobody is promised anything, everybody runs.
    const promised = this.#live.filter((job) => job.bound && !this.#hopeless.has(job));
    const gains = promised.some((job) => !job.prefilling);
    for (const job of jobs) {
      const i = this.#live.indexOf(job);
      const exit = this.exits[i] ?? job.max;
      this.#add(exit, 1);
      const stepMs = this.#batch.step(this.#rows);
      if (!gains || takes(this.#room, stepMs - this.#baseMs, this.#onceMs)) continue;
      const idleMs = state.now - (job.live?.lastTokenAt ?? job.request.arrivedAt);
      const due = idleMs + stepMs >= stepMs / policy.noBudgetShare;
      // Promises that are older than the request go before: they were made without counting on it.
      if (due && !promised.some((each) => each.request.arrivedAt <= job.request.arrivedAt)) continue;
      this.#add(exit, -1);
      paused.push(job.request.id);
    }
    return paused;
  }

  #add(exit: number, count: number): void {
    this.#rows[exit] = (this.#rows[exit] ?? 0) + count;
  }

  /** Work that only this exit asks for, once: prefill or catch-up. */
  #onceOf(job: Job, exit: number): number {
    return job.prefilling
      ? loadOf(job, exit, this.#batch).prefillMs
      : missingMs(job, exit, this.#batch.model, this.#batch.policy.chunks.at(-1) ?? 128);
  }

  /** Moves a row one level up if the room allows it with `spare` times what it costs. */
  #fits(job: Job, from: number, to: number, once: number, spare: number): boolean {
    const decoding = !job.prefilling;
    if (decoding) this.#add(from, -1);
    this.#add(to, 1);
    const stepMs = this.#batch.step(this.#rows);
    if (takes(this.#room, stepMs * spare - this.#baseMs, this.#onceMs + once * spare)) {
      this.#onceMs += once;
      return true;
    }
    this.#add(to, -1);
    if (decoding) this.#add(from, 1);
    return false;
  }
}

/** What may be spent above the shallowest plan if arrivals go on as they did, and who can't be helped by it. */
function spareOf(batch: Batch): { room: Room; hopeless: ReadonlySet<Job> } {
  const { jobs, state, model, policy, step } = batch;
  const bound = jobs.filter((job) => job.bound);
  const stretch = stretchOf(jobs, policy);
  const company = companyOf(state.demand ?? noDemand, state.now, 0, model, step, state.slots, policy);
  const crowded = inCompany(step, company, 0);
  const expected = outlook(batch, bound, shallowest, stretch * company.stretch, undefined, crowded);
  const endangered = bound.some((job, i) => isLate(job, expected, i, state.now));
  const lost = endangered ? lostOf(batch, bound) : new Set<Job>();
  return { room: roomOf(bound, expected, lost, state.now, stretch * company.stretch), hopeless: lost };
}

/** How much time a job has per token that is left: larger is looser. */
function loose(job: Job): number {
  return Math.min((job.deadlines.end - job.request.arrivedAt) / Math.max(1, job.length), job.deadlines.tpot);
}

function isBetter({ shape }: CostModel, exit: number, than: number): boolean {
  return (shape.exits[exit]?.quality ?? 0) > (shape.exits[than]?.quality ?? 0);
}
