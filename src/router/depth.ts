/**
 * Depth allocation: every request with a budget goes as deep as the objective gains, and rows without one fill what is
 * left.
 *
 * All rows share the machine, so a budget buys no depth of its own: it limits the milliseconds that are spent before its
 * deadline.
 */
import { type Expected, Feasibility } from './feasibility.js';
import type { PlanningState } from './planning-state.js';

export class DepthAllocation {
  readonly feasibility: Feasibility;
  /** By request. */
  readonly exits: Int32Array;

  constructor(
    readonly state: PlanningState,
    expected: Expected,
  ) {
    this.feasibility = new Feasibility(state, expected);
    this.exits = Int32Array.from(state.requests, (_, i) =>
      this.feasibility.dropped.has(i) ? state.floor(i) : this.feasibility.exitOf(i),
    );
  }

  /** Decoding requests keep the exits in force, or the next one up to them. @param prompts whether prompts do, too */
  keep(prompts = false): void {
    this.#deepen(
      ({ isPrefilling, maxExit, currentExit }) => (isPrefilling && !prompts ? -1 : Math.min(maxExit, currentExit)),
      this.state.policy.keepReserve,
    );
  }

  /** Prompts: a deeper exit takes a longer prefill, but no change. */
  begin(): void {
    this.#deepen(({ isPrefilling, maxExit }) => (isPrefilling ? maxExit : -1), this.state.policy.beginReserve);
  }

  /**
   * Rows without a budget run where every deadline has slack for them, and else when their share of the machine is due.
   * @param live how many of the state's requests hold a slot: the first ones
   * @returns indices of the rows that skip the step
   */
  backfill(live: number): number[] {
    const { state, feasibility, exits } = this;
    const { noBudgetShare } = state.policy;
    const rows: number[] = [];
    let hasDeadlines = false;
    for (let i = 0; i < live; i += 1) {
      const { isPrefilling, hasDeadline } = state.at(i);
      if (isPrefilling) continue;
      if (!hasDeadline) rows.push(i);
      else if (!feasibility.dropped.has(i)) hasDeadlines = true;
    }
    // A pause gives time to rows with a deadline; without one, all rows run.
    if (!hasDeadlines) return [];
    const counts = new Int32Array(state.exits);
    return rows.filter((i) => {
      const { live: sequence, request, maxExit } = state.at(i);
      const exit = exits[i] ?? maxExit;
      if (feasibility.tryBackfill(exit)) return false;
      counts.fill(0);
      counts[exit] = 1;
      const idleMs = state.state.now - (sequence?.lastTokenAt ?? request.arrivedAt);
      return idleMs < state.step(counts) * (1 / noBudgetShare - 1);
    });
  }

  /** @param topOf deepest exit that a request may get to now, at most its exit where nothing may change */
  #deepen(topOf: (planned: PlanningState['requests'][number]) => number, reserve: number): void {
    const { state, feasibility, exits } = this;
    state.requests.forEach((planned, i) => {
      if (!planned.hasDeadline || feasibility.dropped.has(i)) return;
      const from = exits[i] ?? 0;
      for (let exit = topOf(planned); exit > from; exit -= 1) {
        if (!feasibility.tryDeepen(i, exit, reserve)) continue;
        exits[i] = exit;
        break;
      }
    });
  }
}
