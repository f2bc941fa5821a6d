/**
 * Everything that is due, by deadline, and whether it fits when all work before each deadline is done first: what may
 * still be spent on depth.
 *
 * Knows: jobs with a budget, what their work costs, what is expected to arrive. Must not know: who runs in which step.
 *
 * The single machine's rule: serving by earliest deadline keeps all deadlines if any order does. So a set of jobs is
 * feasible when for each deadline the work due by then fits; and where it does not, the fewest are late when the
 * largest of them is given up (Moore and Hodgson).
 */
import { type Batch, loadOf, stretchOf } from './batch.js';
import { dueWithin } from './demand.js';
import { type Job, stepsLeft } from './jobs.js';
import { type Levels, levelsOf } from './levels.js';
import { planChunk } from './policy.js';
import { promptMs } from './steps.js';

/** A job's prompt, or the decode steps after it. */
interface Task {
  /** Index into the batch's jobs. */
  readonly job: number;
  readonly isPrompt: boolean;
  readonly due: number;
  /** Milliseconds of planned work that fit before it is due. */
  readonly open: number;
}

/**
 * A job that misses by more than this share of the time it has left, and of all the time that it had, is given up:
 * nobody goes shallower for it.
 */
const GIVE_UP = 0.1;
const GIVE_UP_ALL = 0.02;
/** Share of the steps that rows could ride along which promises count on: prompts come between. */
const PROMISED_ALONG = 0.5;
/** What a learnt margin of promises adds to foresight: at a margin of 0.1, half as much again. */
const CAUTION = 5;
/** Fewer expected arrivals than this are more likely none, and count the less. */
const FEW = Math.LN2;
/** Promises leave time for this many times what is expected to arrive: less than depth does, which can be taken back. */
const PROMISED_COMING = 1;

export class Agenda {
  readonly levels: Levels;
  /** Jobs whose deadline can't be kept, or would cost more others theirs. */
  readonly lost = new Set<Job>();
  /** By rising deadline. */
  readonly #tasks: Task[];
  /** By job: exit that its work is counted at, prefill or catch-up there, decode steps left. */
  readonly #exits: Int32Array;
  readonly #prefill: Float64Array;
  readonly #steps: Float64Array;
  /** By job: whether its work counts. */
  readonly #counts: Uint8Array;
  /** By exit, by task: work that is expected to arrive and be due before. */
  #coming: readonly Float64Array[] = [];
  readonly #foresight: number;
  /** By task: ms of work before its due, decode steps that run until then. */
  readonly #used: Float64Array;
  readonly #until: Float64Array;
  /** By job: steps that it rides along with those who are due before. */
  readonly #along: Float64Array;
  /** By exit: decode steps that reach there. */
  readonly #reach: Float64Array;
  /** By job: its first and its last task. */
  readonly #begins: Int32Array;
  readonly #ends: Int32Array;
  /** By task, for speed: time before it is due, whether its job counts, what a change costs. */
  readonly #open: Float64Array;
  readonly #active: Uint8Array;
  readonly #scratch: Float64Array;

  constructor(private readonly batch: Batch) {
    const { jobs, model, step } = batch;
    const exits = model.shape.exits.length;
    // Where promises were broken, more must be left over: what breaks them takes the time of those who come later, too.
    const caution = CAUTION * batch.state.learned.promises.margin;
    this.#foresight = batch.policy.foresight * (1 + caution);
    this.levels = levelsOf(step, exits, jobs.filter((job) => job.live !== null).length);
    this.#exits = Int32Array.from(jobs, ({ min }) => min);
    this.#prefill = Float64Array.from(jobs, (job) => (job.bound ? loadOf(job, job.min, batch).prefillMs : 0));
    this.#steps = Float64Array.from(jobs, (job) => stepsLeft(job));
    this.#counts = Uint8Array.from(jobs, ({ bound }) => Number(bound));
    this.#along = new Float64Array(jobs.length);
    this.#reach = new Float64Array(exits);
    this.#tasks = this.#collect();
    this.#used = new Float64Array(this.#tasks.length);
    this.#until = new Float64Array(this.#tasks.length);
    this.#scratch = new Float64Array(this.#tasks.length);
    this.#open = Float64Array.from(this.#tasks, ({ open }) => open);
    this.#begins = new Int32Array(jobs.length);
    this.#ends = new Int32Array(jobs.length);
    for (let i = this.#tasks.length - 1; i >= 0; i -= 1) this.#begins[this.#tasks[i]?.job ?? 0] = i;
    this.#tasks.forEach(({ job }, i) => (this.#ends[job] = i));
    this.#giveUp();
    this.#active = Uint8Array.from(this.#tasks, ({ job }) => this.#counts[job] ?? 0);
    this.#coming = this.#expect();
    this.#pass();
    this.#chargeRides();
  }

  /** Work due by a job's end, ms. */
  workUntil(job: number): number {
    return this.#used[this.#ends[job] ?? -1] ?? 0;
  }

  /** Least spare time of other jobs' tasks that are due before `due`. */
  spareBefore(due: number, self: number): number {
    let least = Infinity;
    this.#tasks.forEach((task, i) => {
      if (task.due >= due || task.job === self || this.#counts[task.job] === 0) return;
      least = Math.min(least, task.open - (this.#used[i] ?? 0));
    });
    return least;
  }

  /**
   * How many times the work fits that is due by a job's own deadlines, everybody at the shallowest and what is expected
   * to arrive included; 0 where somebody who is due later fits without it, but not with it. Call it before any raise.
   * @param grainMs what the job must be able to wait for in any case
   */
  room(self: number, grainMs: number): number {
    const promised = Math.min(PROMISED_COMING, this.batch.policy.foresight);
    const share = (): number[] => {
      this.#pass(PROMISED_ALONG);
      return this.#tasks.map(({ job, open }, i) => {
        const extra = job === self ? grainMs + promised * (this.#coming[0]?.[i] ?? 0) : 0;
        const work = (this.#used[i] ?? 0) + extra;
        return work > 0 ? open / work : Infinity;
      });
    };
    this.#counts[self] = 0;
    const without = share();
    this.#counts[self] = 1;
    const withIt = share();
    this.#pass();
    this.#chargeRides();
    let own = Infinity;
    for (const [i, { job }] of this.#tasks.entries()) {
      const fits = withIt[i] ?? 0;
      if (job === self) own = Math.min(own, fits);
      else if (fits < 1 && (without[i] ?? 0) >= 1 && this.#counts[job] === 1) return 0;
    }
    return own;
  }

  /** Whether a row that nothing was promised to may run beside all others; takes the time if so. */
  ride(exit: number): boolean {
    const row = this.levels.row[exit] ?? 0;
    const coming = this.#coming[0];
    const foresight = this.#foresight;
    for (let i = 0; i < this.#used.length; i += 1) {
      const more = row * (this.#until[i] ?? 0);
      if (this.#active[i] === 0 || more <= 0) continue;
      if ((this.#used[i] ?? 0) + more + foresight * (coming?.[i] ?? 0) > (this.#open[i] ?? 0)) return false;
    }
    for (let i = 0; i < this.#used.length; i += 1) {
      this.#used[i] = (this.#used[i] ?? 0) + row * (this.#until[i] ?? 0);
    }
    return true;
  }

  /**
   * Makes a job deeper if everything still fits, with everything that comes at that level, too.
   * @param prefillMs what its prefill or catch-up then takes
   * @param spare share of the work that must be left over
   */
  raise(job: number, to: number, prefillMs: number, spare: number): boolean {
    const { row, fixed } = this.levels;
    const from = this.#exits[job] ?? 0;
    const steps = this.#steps[job] ?? 0;
    const reach = this.#reach[to] ?? 0;
    const rowMs = (row[to] ?? 0) - (row[from] ?? 0);
    const fixedMs = (fixed[to] ?? 0) - (fixed[from] ?? 0);
    const first = this.#begins[job] ?? 0;
    const last = this.#ends[job] ?? 0;
    const prefill = prefillMs - (this.#prefill[job] ?? 0);
    const along = this.#along[job] ?? 0;
    // Catching up happens at once, whoever is due before.
    const catchUp = this.batch.jobs[job]?.prefilling === false;
    const costs = this.#scratch;
    const coming = this.#coming[to];
    const foresight = this.#foresight;
    for (let i = 0; i < costs.length; i += 1) {
      const own = i >= last ? steps : Math.min(along, this.#until[i] ?? 0);
      const more = (i >= first || catchUp ? prefill : 0) + own * rowMs + Math.max(0, own - reach) * fixedMs;
      costs[i] = more;
      if (more <= 0 || this.#active[i] === 0) continue;
      const needed = (this.#used[i] ?? 0) + more + foresight * (coming?.[i] ?? 0);
      if (needed * (1 + spare) > (this.#open[i] ?? 0)) return false;
    }
    for (let i = 0; i < costs.length; i += 1) this.#used[i] = (this.#used[i] ?? 0) + (costs[i] ?? 0);
    this.#exits[job] = to;
    this.#prefill[job] = prefillMs;
    this.#reach[to] = Math.max(reach, steps);
    return true;
  }

  /**
   * Adds up the work by deadline, everybody at the shallowest. A job's rows ride along with the steps of those who are
   * due before it, for as long as those have time for it: no step has to be run for them alone then.
   * @param trust share of that which is counted on
   */
  #pass(trust = 1): void {
    const { row, fixed } = this.levels;
    let work = 0;
    let longest = 0;
    let deepest = 0;
    let credit = Infinity;
    for (let i = 0; i < this.#tasks.length; i += 1) {
      const task = this.#tasks[i];
      if (task === undefined) break;
      if (this.#counts[task.job] === 1) {
        if (!task.isPrompt) {
          const exit = this.#exits[task.job] ?? 0;
          const steps = this.#steps[task.job] ?? 0;
          const rowMs = row[exit] ?? 0;
          const alone = fixed[exit] ?? 0;
          const along = trust * Math.max(0, Math.min(steps, longest, rowMs > 0 ? credit / rowMs : Infinity));
          work += steps * (rowMs + alone) - along * Math.min(alone, deepest);
          credit -= along * rowMs;
          this.#along[task.job] = along;
          longest = Math.max(longest, steps);
          deepest = Math.max(deepest, alone);
        }
        if (task.isPrompt || !this.#isSplit(i)) work += this.#prefill[task.job] ?? 0;
        credit = Math.min(credit, Math.max(0, task.open - work));
      }
      this.#used[i] = work;
      this.#until[i] = longest;
    }
  }

  /** What rides along is paid for by those who are due earlier. */
  #chargeRides(): void {
    this.#reach.fill(0);
    const { row } = this.levels;
    for (let i = this.#tasks.length - 1; i >= 0; i -= 1) {
      const task = this.#tasks[i];
      if (task === undefined || this.#counts[task.job] === 0 || task.isPrompt) continue;
      const exit = this.#exits[task.job] ?? 0;
      const steps = this.#steps[task.job] ?? 0;
      for (let level = 0; level <= exit; level += 1) this.#reach[level] = Math.max(this.#reach[level] ?? 0, steps);
      const along = this.#along[task.job] ?? 0;
      if (along === 0) continue;
      for (let before = 0; before < i; before += 1) {
        const ridden = Math.min(along, this.#until[before] ?? 0);
        this.#used[before] = (this.#used[before] ?? 0) + ridden * (row[exit] ?? 0);
      }
    }
  }

  /** Whether a decode task has its prompt as a task of its own. */
  #isSplit(i: number): boolean {
    return this.batch.jobs[this.#tasks[i]?.job ?? -1]?.prefilling === true;
  }

  #collect(): Task[] {
    const { jobs, state, policy } = this.batch;
    const { row, fixed } = this.levels;
    const stretch = stretchOf(jobs, policy);
    const ahead = jobs.reduce((sum, { prefilling }, i) => sum + (prefilling ? (this.#prefill[i] ?? 0) : 0), 0);
    const tasks: Task[] = [];
    const push = (job: number, isPrompt: boolean, due: number): void => {
      tasks.push({ job, isPrompt, due, open: Math.max(0, due - state.now) / stretch });
    };
    jobs.forEach((job, index) => {
      if (!job.bound) return;
      const { first, end, tpot } = job.deadlines;
      const paced = job.length < 2 ? Infinity : (job.firstTokenAt ?? state.now + ahead) + tpot * (job.length - 1);
      const due = Math.min(end, paced);
      if (!job.prefilling) {
        push(index, false, due);
        return;
      }
      const stepMs = (row[job.min] ?? 0) + (fixed[job.min] ?? 0);
      const ready = due - (this.#steps[index] ?? 0) * stepMs;
      const begin = job.firstTokenAt === null ? Math.min(first, ready) : ready;
      push(index, true, begin);
      push(index, false, Math.max(begin, due));
    });
    return tasks.sort((a, b) => a.due - b.due || a.job - b.job || Number(b.isPrompt) - Number(a.isPrompt));
  }

  /** At the likely lengths and without a margin: how long an answer may well get is no reason to give it up. */
  #giveUp(): void {
    const { jobs, state } = this.batch;
    const planned = Float64Array.from(this.#steps);
    jobs.forEach((job, i) => (this.#steps[i] = stepsLeft(job, job.likely)));
    for (;;) {
      this.#pass();
      const late = this.#tasks.findIndex(
        ({ job, due }, i) => this.#counts[job] === 1 && (this.#used[i] ?? 0) > patience(jobs[job], due, state.now),
      );
      if (late < 0) break;
      let largest = this.#tasks[late]?.job ?? 0;
      for (const { job } of this.#tasks.slice(0, late)) {
        if (this.#counts[job] === 1 && this.#aloneMs(job) > this.#aloneMs(largest)) largest = job;
      }
      this.#counts[largest] = 0;
      const given = jobs[largest];
      if (given !== undefined) this.lost.add(given);
    }
    this.#steps.set(planned);
  }

  #aloneMs(job: number): number {
    const exit = this.#exits[job] ?? 0;
    const stepMs = (this.levels.row[exit] ?? 0) + (this.levels.fixed[exit] ?? 0);
    return (this.#prefill[job] ?? 0) + (this.#steps[job] ?? 0) * stepMs;
  }

  #expect(): Float64Array[] {
    const { state, model, policy } = this.batch;
    const chunk = planChunk(policy);
    const due = this.#tasks.map((task) =>
      policy.foresight === 0 || task.due === Infinity
        ? { requests: 0, positions: 0, tokens: 0 }
        : dueWithin(state.learned.demand, state.now, task.due - state.now, policy.urgency),
    );
    return model.shape.exits.map((_, exit) => {
      const position = promptMs(model, exit, chunk, chunk) / chunk;
      const row = this.levels.row[exit] ?? 0;
      return Float64Array.from(
        due,
        ({ requests, positions, tokens }) => Math.min(1, requests / FEW) * (positions * position + tokens * row),
      );
    });
  }
}

/** Milliseconds after which a job counts as late for good. */
function patience(job: Job | undefined, due: number, now: number): number {
  const whole = due - (job?.request.arrivedAt ?? now);
  return Math.max(Math.max(0, due - now) * (1 + GIVE_UP), due - now + whole * GIVE_UP_ALL);
}
