/**
 * Everything that is due, by deadline, and whether it fits when all work before each deadline is done first: what may
 * still be spent on depth.
 *
 * Knows: the work by deadline, what is expected to arrive. Must not know: who runs in which step, who should be deeper.
 *
 * The single machine's rule: serving by earliest deadline keeps all deadlines if any order does. So a set of jobs is
 * feasible when for each deadline the work due by then fits.
 */
import { flags, floats, integers } from './arrays.js';
import type { Batch } from './batch.js';
import { comingWork } from './coming.js';
import { giveUp } from './give-up.js';
import type { Job } from './jobs.js';
import { type Levels, levelsOf } from './levels.js';
import { marginOf } from './promises.js';
import { type Loads, type Task, leastLoads, tasksOf } from './tasks.js';
import { Work } from './work.js';

/** Share of the steps that rows could ride along which promises count on: prompts come between. */
const PROMISED_ALONG = 0.5;
/** What a learnt margin of promises adds to foresight: at a margin of 0.1, half as much again. */
const CAUTION = 5;
/** Promises leave time for this many times what is expected to arrive: less than depth does, which can be taken back. */
const PROMISED_COMING = 1;
/** Share of every budget that rows without a deadline leave alone. */
const RIDE = 0.25;

export class Agenda {
  readonly levels: Levels;
  /** Jobs whose deadline can't be kept, or would cost more others theirs. */
  readonly lost: ReadonlySet<Job>;
  readonly #tasks: readonly Task[];
  readonly #loads: Loads;
  readonly #work: Work;
  /** By task: work that is expected to arrive and be due before. */
  readonly #coming: Float64Array;
  readonly #foresight: number;
  /** By task: its work before anybody was made deeper; time until it is due, now and at its arrival; whether its job counts. */
  readonly #least: Float64Array;
  readonly #open: Float64Array;
  readonly #whole: Float64Array;
  readonly #active: Uint8Array;
  /** By job: its first and its last task. */
  readonly #begins: Int32Array;
  readonly #ends: Int32Array;
  /** By job: the task from which on what it needs once is counted. */
  readonly #charged: Int32Array;
  readonly #scratch: Float64Array;

  /** @param promisedOnly whether jobs that nothing was promised to are left out */
  constructor(
    private readonly batch: Batch,
    promisedOnly = false,
  ) {
    const { jobs, model, step, policy, state } = batch;
    // Where promises were broken, more must be left over: what breaks them takes the time of those who come later, too.
    this.#foresight = policy.foresight * (1 + CAUTION * marginOf(state.learned.promises, state.now));
    this.levels = levelsOf(step, model.shape.exits.length, jobs.filter((job) => job.live !== null).length);
    this.#loads = leastLoads(batch, this.levels);
    if (promisedOnly)
      jobs.forEach(({ promised }, i) => (this.#loads.counts[i] = promised ? (this.#loads.counts[i] ?? 0) : 0));
    this.#tasks = tasksOf(batch, this.#loads, this.levels);
    this.#work = new Work(this.#tasks, this.#loads, this.levels);
    this.lost = giveUp(batch, this.#work, this.levels);
    this.#begins = new Int32Array(jobs.length);
    this.#ends = new Int32Array(jobs.length);
    for (let i = this.#tasks.length - 1; i >= 0; i -= 1) this.#begins[this.#tasks[i]?.job ?? 0] = i;
    this.#tasks.forEach(({ job }, i) => (this.#ends[job] = i));
    this.#charged = integers(jobs, (_, i) => (this.#loads.atOnce[i] === 1 ? this.#ends : this.#begins)[i] ?? 0);
    this.#open = floats(this.#tasks, ({ open }) => open);
    this.#whole = floats(this.#tasks, ({ whole }) => whole);
    this.#active = flags(this.#tasks, ({ job }) => this.#loads.counts[job] === 1);
    this.#scratch = new Float64Array(this.#tasks.length);
    this.#coming = comingWork(batch, this.#tasks, this.levels);
    this.#sum();
    this.#least = this.#work.used.slice();
  }

  /** Exit that a job's work is counted at. */
  exitOf(job: number): number {
    return this.#loads.exits[job] ?? 0;
  }

  /** Decode steps that it is counted with. */
  stepsOf(job: number): number {
    return this.#loads.steps[job] ?? 0;
  }

  /** Milliseconds of its own that a job may spend before its answer is due, a share of its budget kept. */
  spendableOf(job: number, reserve: number): number {
    return this.#within(this.#ends[job] ?? -1, reserve);
  }

  /** When a job with a budget is due, as it was asked for or by its pace. */
  dueOf(job: number): number {
    return this.#tasks[this.#ends[job] ?? -1]?.due ?? Infinity;
  }

  /** Work due by a job's end, ms. */
  workUntil(job: number): number {
    return this.#work.used[this.#ends[job] ?? -1] ?? 0;
  }

  /**
   * Least spare time of other jobs' tasks that are due before `due`.
   * @param depth whether others' depth counts, or only their deadlines
   */
  spareBefore(due: number, self: number, depth: boolean): number {
    const used = depth ? this.#work.used : this.#least;
    let least = Infinity;
    for (let i = 0; i < this.#tasks.length; i += 1) {
      const task = this.#tasks[i];
      if (task === undefined || task.due >= due) break;
      if (task.job !== self && this.#active[i] === 1) least = Math.min(least, task.open - (used[i] ?? 0));
    }
    return least;
  }

  /**
   * How many times the work fits that is due by a job's own deadlines, everybody at the shallowest and what is expected
   * to arrive included; 0 where somebody who is due later fits without it, but not with it. Call it before any raise.
   * @param grainMs what the job must be able to wait for in any case
   */
  room(self: number, grainMs: number): number {
    const { counts } = this.#loads;
    const promised = Math.min(PROMISED_COMING, this.batch.policy.foresight);
    const share = (): number[] => {
      this.#work.add(PROMISED_ALONG);
      return this.#tasks.map(({ job, open }, i) => {
        const extra = job === self ? grainMs + promised * (this.#coming[i] ?? 0) : 0;
        const work = (this.#work.used[i] ?? 0) + extra;
        return work > 0 ? open / work : Infinity;
      });
    };
    counts[self] = 0;
    const without = share();
    counts[self] = 1;
    const withIt = share();
    this.#sum();
    let own = Infinity;
    for (const [i, { job }] of this.#tasks.entries()) {
      const fits = withIt[i] ?? 0;
      if (job === self) own = Math.min(own, fits);
      else if (fits < 1 && (without[i] ?? 0) >= 1 && counts[job] === 1) return 0;
    }
    return own;
  }

  /** Whether a row that nothing was promised to may run beside all others, as deep as it goes; takes the time if so. */
  ride(exit: number): boolean {
    const { used, until, reach } = this.#work;
    const row = this.levels.row[exit] ?? 0;
    const coming = this.#coming;
    const costs = this.#scratch;
    for (let i = 0; i < used.length; i += 1) {
      const runs = until[i] ?? 0;
      const more = row * runs + this.#deeperMs(runs, 0, exit);
      costs[i] = more;
      if (this.#active[i] === 0 || more <= 0) continue;
      if ((used[i] ?? 0) + more + this.#foresight * (coming[i] ?? 0) > this.#within(i, RIDE)) return false;
    }
    for (let i = 0; i < used.length; i += 1) used[i] = (used[i] ?? 0) + (costs[i] ?? 0);
    const longest = until.at(-1) ?? 0;
    for (let level = 0; level <= exit; level += 1) reach[level] = Math.max(reach[level] ?? 0, longest);
    return true;
  }

  /**
   * Makes a job deeper if everything still fits, with everything that comes at its shallowest, too.
   * @param onceMs what its prefill or catch-up then takes
   * @param reserve share of every budget that must be left over: for what nobody foresees
   */
  raise(job: number, to: number, onceMs: number, reserve: number): boolean {
    const { row } = this.levels;
    const { exits, once, steps, atOnce } = this.#loads;
    const { used, until, reach, along } = this.#work;
    const from = exits[job] ?? 0;
    const own = steps[job] ?? 0;
    const rowMs = (row[to] ?? 0) - (row[from] ?? 0);
    const isReached = (reach[to] ?? 0) >= own;
    const first = atOnce[job] === 1 ? 0 : (this.#begins[job] ?? 0);
    const last = this.#ends[job] ?? 0;
    const charged = this.#charged[job] ?? 0;
    const before = once[job] ?? 0;
    const ridden = along[job] ?? 0;
    const costs = this.#scratch;
    const coming = this.#coming;
    const foresight = this.#foresight;
    for (let i = 0; i < costs.length; i += 1) {
      const runs = i >= last ? own : Math.min(ridden, until[i] ?? 0);
      const onceMore = (i >= first ? onceMs : 0) - (i >= charged ? before : 0);
      const more = onceMore + runs * rowMs + (isReached || runs === 0 ? 0 : this.#deeperMs(runs, from, to));
      costs[i] = more;
      if (more <= 0 || this.#active[i] === 0) continue;
      const needed = (used[i] ?? 0) + more + foresight * (coming[i] ?? 0);
      if (needed > this.#within(i, reserve)) return false;
    }
    for (let i = 0; i < costs.length; i += 1) used[i] = (used[i] ?? 0) + (costs[i] ?? 0);
    exits[job] = to;
    once[job] = onceMs;
    this.#charged[job] = first;
    for (let level = 0; level <= to; level += 1) reach[level] = Math.max(reach[level] ?? 0, own);
    return true;
  }

  /** Time until a task is due that may be spent while a share of its job's whole budget is kept. */
  #within(task: number, reserve: number): number {
    return (this.#open[task] ?? 0) - reserve * (this.#whole[task] ?? 0);
  }

  /** What steps cost that nobody else brings as deep. */
  #deeperMs(runs: number, from: number, to: number): number {
    const { fixed } = this.levels;
    let ms = 0;
    for (let level = from + 1; level <= to; level += 1) {
      const alone = runs - (this.#work.reach[level] ?? 0);
      if (alone > 0) ms += alone * ((fixed[level] ?? 0) - (fixed[level - 1] ?? 0));
    }
    return ms;
  }

  #sum(): void {
    this.#work.add();
    this.#work.chargeRides();
  }
}
