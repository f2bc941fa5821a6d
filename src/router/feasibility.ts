/**
 * The processor-demand test of earliest deadline first: all work that is due by each deadline must fit before it. What is
 * left over is slack, which depth may spend.
 *
 * Rows share steps: rows that are due later share the steps of rows that are due earlier, while those have slack for it.
 */
import { promptMs, tokenMs } from '../cost/step-costs.js';
import type { Arrivals } from './estimators/arrivals.js';
import type { PlanningState } from './planning-state.js';
import { plannedChunk } from './policy.js';
import { type PlannedRequest, stepsLeft, tpotDeadline } from './request.js';

/** Work of one request with a deadline, at the exit that it is counted at. */
interface Load {
  readonly i: number;
  readonly planned: PlannedRequest;
  exit: number;
  /** Prefill or catch-up, ms, then mean decode steps. */
  setupMs: number;
  steps: number;
  /** Whether the sums count it. */
  isCounted: boolean;
  /** Steps that it shares with earlier deadlines. */
  sharedSteps: number;
  prefill: Phase | null;
  decode: Phase | null;
}

/** Prefill or decode of one request, with its deadline. */
interface Phase {
  readonly load: Load;
  readonly isPrefill: boolean;
  /** Index by deadline. */
  order: number;
  readonly dueAt: number;
  /** Planned work that fits until the deadline, and that would have fitted since arrival; ms. */
  readonly remainingMs: number;
  readonly windowMs: number;
  /** Expected arrivals that are due before, ms. */
  arrivalsMs: number;
  /** Work that is due by then, the same with every request at its floor, and decode steps before it. */
  demandMs: number;
  floorDemandMs: number;
  stepsBefore: number;
  /** What the exit that is tried adds. */
  addedMs: number;
}

/** Work to expect: the arrival estimate, and the learnt safety margin, which adds to its headroom. */
export interface Expected {
  readonly arrivals: Arrivals;
  readonly safetyMargin: number;
}

const CLASS_RANK = { guaranteed: 0, reserved: 1, best_effort: 2, none: 2 } as const;

/** Demand by deadline of a set of requests, and the exits that it is counted at. */
export class Feasibility {
  /** Requests whose deadline can't be met, or would cost more other requests theirs: load shedding. */
  readonly dropped: ReadonlySet<number>;
  /** By request; null without a deadline. */
  readonly #loads: readonly (Load | null)[];
  /** By rising deadline. */
  readonly #phases: readonly Phase[];
  /** By exit: decode steps that reach it. */
  readonly #stepsByDepth: Float64Array;
  readonly #arrivalFactor: number;

  /** @param isCounted whether a request's work counts; absent: of every request with a deadline */
  constructor(
    private readonly state: PlanningState,
    { arrivals, safetyMargin }: Expected,
    isCounted: (i: number) => boolean = () => true,
  ) {
    const { requests, policy } = state;
    this.#arrivalFactor = policy.arrivalHeadroom * (1 + policy.arrivalCaution * safetyMargin);
    this.#loads = requests.map((planned, i) => (planned.hasDeadline ? loadOf(state, planned, i, isCounted(i)) : null));
    this.#phases = this.#phasesOf();
    this.#stepsByDepth = new Float64Array(state.exits);
    this.dropped = this.#shedLoad();
    this.#expect(arrivals);
    this.#addUp();
    this.#chargeSharedSteps();
    for (const phase of this.#phases) phase.floorDemandMs = phase.demandMs;
  }

  /** The exit that a request's work is counted at: its deepest without a deadline. */
  exitOf(i: number): number {
    return this.#loads[i]?.exit ?? this.state.at(i).maxExit;
  }

  /** Mean decode steps that a request is counted with. */
  stepsOf(i: number): number {
    return this.#loads[i]?.steps ?? 0;
  }

  /** Work that is due by the end of a request, its own included; ms. */
  demandOf(i: number): number {
    const load = this.#loads[i];
    if (load?.decode == null) return 0;
    const ownMs = load.setupMs + load.steps * tokenMs(this.state.cost, load.exit, 1);
    return load.decode.demandMs + (load.isCounted ? 0 : ownMs);
  }

  /** Time until the end of a request that no work takes; negative where work takes more, ms. */
  slackOf(i: number): number {
    return (this.#loads[i]?.decode?.remainingMs ?? Infinity) - this.demandOf(i);
  }

  /**
   * Least slack of other requests with an earlier deadline and a known length, each at its floor. An estimated length
   * holds no prompt up: its mean is soon wrong, and a thin batch makes all requests late.
   */
  slackBefore(dueAt: number, self: number): number {
    let least = Infinity;
    for (const { load, dueAt: at, remainingMs, floorDemandMs } of this.#phases) {
      if (at >= dueAt) break;
      if (load.isCounted && load.i !== self && load.planned.lengths === null) {
        least = Math.min(least, remainingMs - floorDemandMs);
      }
    }
    return least;
  }

  /**
   * How many times the time until a request's deadlines holds the work due by then, with every request at its floor;
   * 0 where a later deadline fits without the request, but not with it. Call it last: it leaves the demand without shares.
   * @param blockingMs a step that may be running already
   * @param ownMs time at the floor that the request needs beyond its mean, for stated probabilities
   * @returns for each of `ownMs`
   */
  headrooms(self: number, blockingMs: number, ownMs: readonly number[]): number[] {
    const own = this.#loads[self];
    if (own == null) return ownMs.map(() => Infinity);
    const { arrivalHeadroom } = this.state.policy;
    own.isCounted = false;
    this.#addUp();
    const without = this.#phases.map(({ demandMs }) => demandMs);
    own.isCounted = true;
    this.#addUp();
    const isHarmless = this.#phases.every(
      ({ load, demandMs, remainingMs }, p) =>
        load === own || !load.isCounted || demandMs <= remainingMs || (without[p] ?? 0) > remainingMs,
    );
    const least = ownMs.map(() => Infinity);
    for (const { load, remainingMs, isPrefill, demandMs, arrivalsMs } of this.#phases) {
      if (load !== own) continue;
      ownMs.forEach((beyond, k) => {
        const work = demandMs + blockingMs + Math.min(1, arrivalHeadroom) * arrivalsMs + (isPrefill ? 0 : beyond);
        if (work > 0) least[k] = Math.min(least[k] ?? 0, remainingMs / work);
      });
    }
    return isHarmless ? least : ownMs.map(() => 0);
  }

  /** Takes time for a row without a deadline that runs beside all others, if there is slack for it. */
  tryBackfill(exit: number): boolean {
    const perRow = this.state.cost.perRow[exit] ?? 0;
    for (const phase of this.#phases) {
      phase.addedMs = perRow * phase.stepsBefore + this.#deeperMs(phase.stepsBefore, 0, exit);
      if (!phase.load.isCounted || phase.addedMs <= 0) continue;
      if (this.#slackOf(phase, this.state.policy.backfillReserve) < 0) return false;
    }
    this.#take(exit, this.#phases.at(-1)?.stepsBefore ?? 0);
    return true;
  }

  /**
   * Makes a request deeper where the objective gains: the value of its own path, less what all other requests lose by the
   * time that it takes. A known length is met or not, so no deadline of a known length may be missed for depth.
   * @param reserve share of every budget that must be left over
   */
  tryDeepen(i: number, to: number, reserve: number): boolean {
    const { state } = this;
    const own = this.#loads[i];
    if (own == null) return false;
    const { perRow, fixed } = state.cost;
    const { exit: from, setupMs: setupFrom, steps: stepsFrom } = own;
    const { deep, rest } = state.path(i, to);
    const setupMs = state.setupMs(i, to) - setupFrom;
    const rowMs = (perRow[to] ?? 0) - (perRow[from] ?? 0);
    const ownMs = this.#rowsMs(i, to) - this.#rowsMs(i, from);
    const isLongest = stepsFrom >= (this.#stepsByDepth[from] ?? 0);
    const savedMs = isLongest ? Math.min(0, deep + rest - stepsFrom) * (fixed[from] ?? 0) : 0;
    const { prefill, decode } = own;
    const add = (phase: Phase): number => {
      const isOver = phase.order >= (decode?.order ?? 0);
      const runs = isOver ? deep : Math.min(own.sharedSteps, deep, phase.stepsBefore);
      const isStarted = phase.order >= (prefill ?? decode ?? phase).order;
      phase.addedMs =
        (isStarted ? setupMs : 0) + (isOver ? ownMs + savedMs : runs * rowMs) + this.#deeperMs(runs, from, to);
      return phase.addedMs;
    };
    if (decode === null) return false;
    // Other requests only lose, so the request's own gain comes first.
    const ownAdded = add(decode);
    const ownSlack = this.#slackOf(decode, reserve);
    if (own.planned.lengths === null && ownSlack < 0) return false;
    let gain = state.pathValue(i, to, ownSlack) - state.pathValue(i, from, ownSlack + ownAdded);
    for (const phase of this.#phases) {
      if (gain <= 0) return false;
      const { load, isPrefill } = phase;
      const added = add(phase);
      if (phase === decode || !load.isCounted || added <= 0) continue;
      const slack = this.#slackOf(phase, reserve);
      const isKnown = load.planned.lengths === null;
      if ((isKnown || (isPrefill && slack + added >= 0)) && slack < 0) return false;
      if (isKnown || isPrefill) continue;
      const loss = state.pathValue(load.i, load.exit, slack + added) - state.pathValue(load.i, load.exit, slack);
      gain -= loss * (load.planned.request.serviceClass === 'guaranteed' ? state.policy.guaranteeWeight : 1);
    }
    if (gain <= 0) return false;
    own.exit = to;
    own.setupMs = state.setupMs(i, to);
    own.steps = deep + rest;
    this.#take(to, deep);
    return true;
  }

  /** Row costs of a request's path: its steps at an exit, and later at its floor; ms. */
  #rowsMs(i: number, exit: number): number {
    const { perRow } = this.state.cost;
    const { deep, rest } = this.state.path(i, exit);
    return deep * (perRow[exit] ?? 0) + rest * (perRow[this.state.floor(i)] ?? 0);
  }

  /** Time left before a deadline while a share of the whole budget stays unspent, with what is tried. */
  #slackOf({ remainingMs, windowMs, demandMs, addedMs, arrivalsMs }: Phase, reserve: number): number {
    return remainingMs - reserve * windowMs - demandMs - addedMs - this.#arrivalFactor * arrivalsMs;
  }

  #take(exit: number, steps: number): void {
    for (const phase of this.#phases) phase.demandMs += phase.addedMs;
    this.#reach(exit, steps);
  }

  #reach(exit: number, steps: number): void {
    const by = this.#stepsByDepth;
    for (let depth = 0; depth <= exit; depth += 1) by[depth] = Math.max(by[depth] ?? 0, steps);
  }

  /** What steps cost that no other row brings as deep. */
  #deeperMs(runs: number, from: number, to: number): number {
    const { fixed } = this.state.cost;
    let ms = 0;
    for (let depth = from + 1; depth <= to; depth += 1) {
      const alone = runs - (this.#stepsByDepth[depth] ?? 0);
      if (alone > 0) ms += alone * ((fixed[depth] ?? 0) - (fixed[depth - 1] ?? 0));
    }
    return ms;
  }

  /** By rising deadline, the prefill of a request before its decode. */
  #phasesOf(): Phase[] {
    const { state, inflation, cost } = this.state;
    let prefillMs = 0;
    for (const load of this.#loads) if (load?.planned.isPrefilling === true) prefillMs += load.setupMs;
    const phases: Phase[] = [];
    for (const load of this.#loads) {
      if (load === null) continue;
      const { planned, exit, steps } = load;
      const { deadlines, request, isPrefilling } = planned;
      const dueAt = Math.min(
        deadlines.end,
        tpotDeadline(planned, request.firstTokenAt ?? state.now + prefillMs, steps),
      );
      const push = (isPrefill: boolean, at: number): void => {
        const remainingMs = Math.max(0, at - state.now) / inflation;
        const windowMs = at === Infinity ? 0 : Math.max(0, at - request.arrivedAt) / inflation;
        const sums = { order: 0, arrivalsMs: 0, demandMs: 0, floorDemandMs: 0, stepsBefore: 0, addedMs: 0 };
        phases.push({ load, isPrefill, dueAt: at, remainingMs, windowMs, ...sums });
      };
      if (!isPrefilling) {
        push(false, dueAt);
        continue;
      }
      const oneMs = tokenMs(cost, exit, 1);
      const readyAt = dueAt - Math.min(steps, stepsLeft(planned, exit, 0.5)) * oneMs;
      const prefillAt = request.firstTokenAt === null ? Math.min(deadlines.firstToken - oneMs, readyAt) : readyAt;
      push(true, prefillAt);
      push(false, Math.max(prefillAt, dueAt));
    }
    phases.sort((a, b) => a.dueAt - b.dueAt || a.load.i - b.load.i || Number(b.isPrefill) - Number(a.isPrefill));
    phases.forEach((phase, order) => {
      phase.order = order;
      phase.load[phase.isPrefill ? 'prefill' : 'decode'] = phase;
    });
    return phases;
  }

  /**
   * Moore-Hodgson: where a deadline can't be met, the largest request due by then is dropped, of the lowest service class
   * first. At median lengths and without a margin: a long answer is only likely to be late.
   */
  #shedLoad(): Set<number> {
    const { state } = this;
    const dropped = new Set<number>();
    const means = this.#loads.map((load) => load?.steps ?? 0);
    for (const load of this.#loads) {
      if (load !== null) load.steps = Math.min(load.steps, stepsLeft(load.planned, load.exit, 0.5));
    }
    const rank = ({ setupMs, steps, exit, planned }: Load): number =>
      setupMs + steps * tokenMs(state.cost, exit, 1) + 1e12 * CLASS_RANK[planned.request.serviceClass];
    for (;;) {
      this.#addUp();
      const late = this.#phases.findIndex(
        ({ load, demandMs, dueAt }) => load.isCounted && demandMs > Math.max(0, dueAt - state.state.now),
      );
      if (late < 0) break;
      let largest: Load | null = null;
      for (const { load } of this.#phases.slice(0, late + 1)) {
        if (load.isCounted && (largest === null || rank(load) > rank(largest))) largest = load;
      }
      if (largest === null) break;
      largest.isCounted = false;
      dropped.add(largest.i);
    }
    this.#loads.forEach((load, i) => {
      if (load !== null) load.steps = means[i] ?? 0;
    });
    return dropped;
  }

  /** Adds up the demand by deadline. */
  #addUp(): void {
    const { perRow, fixed } = this.state.cost;
    let demand = 0;
    let longest = 0;
    let deepest = 0;
    let slack = Infinity;
    for (const phase of this.#phases) {
      const { load, isPrefill, remainingMs } = phase;
      if (load.isCounted) {
        if (isPrefill || !load.planned.isPrefilling) demand += load.setupMs;
        if (!isPrefill) {
          const rowMs = perRow[load.exit] ?? 0;
          const alone = fixed[load.exit] ?? 0;
          load.sharedSteps = Math.max(0, Math.min(load.steps, longest, rowMs > 0 ? slack / rowMs : Infinity));
          demand += load.steps * (rowMs + alone) - load.sharedSteps * Math.min(alone, deepest);
          slack -= load.sharedSteps * rowMs;
          longest = Math.max(longest, load.steps);
          deepest = Math.max(deepest, alone);
        }
        slack = Math.min(slack, Math.max(0, remainingMs - demand));
      }
      phase.demandMs = demand;
      phase.stepsBefore = longest;
    }
  }

  /** Charges shared rows to the earlier deadlines whose steps they share; call it after `#addUp`, once. */
  #chargeSharedSteps(): void {
    this.#stepsByDepth.fill(0);
    const { perRow } = this.state.cost;
    for (const phase of this.#phases) {
      const { load, isPrefill } = phase;
      if (!load.isCounted || isPrefill) continue;
      this.#reach(load.exit, load.steps);
      if (load.sharedSteps === 0) continue;
      const rowMs = perRow[load.exit] ?? 0;
      for (const before of this.#phases) {
        if (before === phase) break;
        before.demandMs += Math.min(load.sharedSteps, before.stepsBefore) * rowMs;
      }
    }
  }

  /** Work that is expected to arrive and to be due before each deadline, at the shallowest exit. */
  #expect(arrivals: Arrivals): void {
    const { model, policy, state, cost } = this.state;
    if (policy.arrivalHeadroom === 0) return;
    const chunk = plannedChunk(policy);
    const positionMs = promptMs(model, 0, chunk, chunk) / chunk;
    const rowMs = cost.perRow[0] ?? 0;
    const dueWithin = arrivals.dueWithin(state.now, policy.arrivalDueFraction);
    for (const phase of this.#phases) {
      if (phase.dueAt === Infinity) break;
      const { requests, positions, tokens } = dueWithin(phase.dueAt - state.now);
      // Fewer expected arrivals than ln 2 are more likely none, and count the less.
      phase.arrivalsMs = Math.min(1, requests / Math.LN2) * (positions * positionMs + tokens * rowMs);
    }
  }
}

/** A request at its floor, or at its current exit where the change costs more than it saves. */
function loadOf(state: PlanningState, planned: PlannedRequest, i: number, isCounted: boolean): Load {
  const { isPrefilling, currentExit, maxExit } = planned;
  const floor = state.floor(i);
  const totalMs = (exit: number): number =>
    state.setupMs(i, exit) + state.meanSteps(i, exit) * tokenMs(state.cost, exit, 1);
  const mayStay = !isPrefilling && currentExit <= maxExit && state.setupMs(i, floor) > 0;
  const exit = mayStay && totalMs(currentExit) < totalMs(floor) ? currentExit : floor;
  const steps = state.meanSteps(i, exit);
  return {
    i,
    planned,
    exit,
    setupMs: state.setupMs(i, exit),
    steps,
    isCounted,
    sharedSteps: 0,
    prefill: null,
    decode: null,
  };
}
