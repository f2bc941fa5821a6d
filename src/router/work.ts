/**
 * How much work is due by each deadline.
 *
 * Knows: tasks by deadline, loads, levels. Must not know: what is done about what does not fit.
 *
 * Rows share steps: a job's rows ride along with the steps of those who are due before it, for as long as those have
 * time for it, and no step has to be run for them alone then.
 */
import type { Levels } from './levels.js';
import type { Loads, Task } from './tasks.js';

export class Work {
  /** By task: ms of work before it is due, decode steps that run until then. */
  readonly used: Float64Array;
  readonly until: Float64Array;
  /** By job: steps that it rides along with those who are due before. */
  readonly along: Float64Array;
  /** By exit: decode steps that reach there. */
  readonly reach: Float64Array;

  constructor(
    readonly tasks: readonly Task[],
    readonly loads: Loads,
    private readonly levels: Levels,
  ) {
    this.used = new Float64Array(tasks.length);
    this.until = new Float64Array(tasks.length);
    this.along = new Float64Array(loads.exits.length);
    this.reach = new Float64Array(levels.row.length);
  }

  /**
   * Adds up the work by deadline.
   * @param trust share of the steps that rows could ride along which is counted on
   */
  add(trust = 1): void {
    const { row, fixed } = this.levels;
    const { exits, once, steps, counts, atOnce } = this.loads;
    let work = 0;
    let longest = 0;
    let deepest = 0;
    let credit = Infinity;
    for (let i = 0; i < this.tasks.length; i += 1) {
      const task = this.tasks[i];
      if (task === undefined) break;
      const { job, isPrompt } = task;
      if (counts[job] === 1) {
        if (isPrompt) work += once[job] ?? 0;
        else {
          const exit = exits[job] ?? 0;
          const own = steps[job] ?? 0;
          const rowMs = row[exit] ?? 0;
          const alone = fixed[exit] ?? 0;
          const along = trust * Math.max(0, Math.min(own, longest, rowMs > 0 ? credit / rowMs : Infinity));
          // Nobody has to change his exit before his own deadline asks for it: a change that does not fit is put off.
          if (atOnce[job] === 1) work += once[job] ?? 0;
          work += own * (rowMs + alone) - along * Math.min(alone, deepest);
          credit -= along * rowMs;
          this.along[job] = along;
          longest = Math.max(longest, own);
          deepest = Math.max(deepest, alone);
        }
        credit = Math.min(credit, Math.max(0, task.open - work));
      }
      this.used[i] = work;
      this.until[i] = longest;
    }
  }

  /** What rides along is paid for by those who are due earlier; call it after `add`, once. */
  chargeRides(): void {
    this.reach.fill(0);
    const { row } = this.levels;
    const { exits, steps, counts } = this.loads;
    for (let i = this.tasks.length - 1; i >= 0; i -= 1) {
      const task = this.tasks[i];
      if (task === undefined || counts[task.job] === 0 || task.isPrompt) continue;
      const exit = exits[task.job] ?? 0;
      const own = steps[task.job] ?? 0;
      for (let level = 0; level <= exit; level += 1) this.reach[level] = Math.max(this.reach[level] ?? 0, own);
      const along = this.along[task.job] ?? 0;
      if (along === 0) continue;
      const rowMs = row[exit] ?? 0;
      for (let before = 0; before < i; before += 1) {
        this.used[before] = (this.used[before] ?? 0) + Math.min(along, this.until[before] ?? 0) * rowMs;
      }
    }
  }
}
