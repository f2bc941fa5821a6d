/**
 * The processor-demand test of earliest deadline first: all work that is due by each deadline must fit before it. Slack is
 * the time that is left over, which depth may spend.
 *
 * Rows share steps: rows that are due later share the steps of rows that are due earlier, while those have slack for it.
 */
import { at } from '../cost/model.js';
import { type ExitCost, promptMs, tokenMs } from '../cost/step-costs.js';
import type { Arrivals } from './estimators/arrivals.js';
import type { PlanningState } from './planning-state.js';
import { plannedChunk } from './policy.js';
import type { PlannedRequest } from './request.js';

/** Work of one request with a deadline, at the exit that it is counted at. */
interface Load {
  readonly planned: PlannedRequest;
  exit: number;
  /** Prefill or catch-up, ms, then mean decode steps. */
  setupMs: number;
  steps: number;
  /** Whether the sums count it. */
  isCounted: boolean;
  /** Steps that it shares with earlier deadlines. */
  sharedSteps: number;
}

/** Prefill or decode of one request, with its deadline. */
interface Phase {
  readonly load: Load;
  /** Prefill that is due before its decode: only a first token has such a deadline. */
  readonly isPrefill: boolean;
  readonly dueAt: number;
  /** Planned work that fits until the deadline, and that would have fitted since arrival; ms. */
  readonly remainingMs: number;
  readonly windowMs: number;
  /** Work that is expected to arrive and to be due before, ms. */
  arrivalsMs: number;
  /** Work that is due by then, the same with every request at its floor, and decode steps before it. */
  demandMs: number;
  floorDemandMs: number;
  stepsBefore: number;
  /** Work that the tried exit adds. */
  addedMs: number;
}

const CLASS_RANK = { guaranteed: 0, reserved: 1, best_effort: 2, none: 2 } as const;

/** Demand by deadline of a set of requests, and the exits that it is counted at. */
export class Feasibility {
  /** Requests whose deadline can't be met, or would cost more other requests theirs: load shedding. */
  readonly dropped: ReadonlySet<PlannedRequest>;
  readonly #state: PlanningState;
  /** By rising deadline. */
  readonly #phases: readonly Phase[];
  /** Of requests with a deadline. */
  readonly #decodes: ReadonlyMap<PlannedRequest, Phase>;
  readonly #costs: readonly ExitCost[];
  /** By exit: decode steps that reach it. */
  readonly #stepsByDepth: number[];
  readonly #assigned = new Map<PlannedRequest, number>();

  /** @param isCounted whether a request's work counts; absent: of every request with a deadline */
  constructor(state: PlanningState, arrivals: Arrivals, isCounted: (planned: PlannedRequest) => boolean = () => true) {
    const { requests, costs } = state;
    this.#state = state;
    this.#costs = costs;
    const loads = requests.filter((each) => each.hasDeadline).map((each) => loadOf(each, costs, isCounted(each)));
    this.#phases = this.#phasesOf(loads);
    this.#decodes = new Map(this.#phases.flatMap((phase) => (phase.isPrefill ? [] : [[phase.load.planned, phase]])));
    this.#stepsByDepth = costs.map(() => 0);
    this.dropped = this.#shedLoad();
    this.#expect(arrivals);
    this.#addUp();
    this.#chargeSharedSteps();
    for (const phase of this.#phases) phase.floorDemandMs = phase.demandMs;
  }

  /** Counts requests at these exits, whatever the objective says, also where their deadline was shed. */
  assign(exits: ReadonlyMap<PlannedRequest, number>): void {
    if (exits.size === 0) return;
    for (const [planned, exit] of exits) {
      this.#assigned.set(planned, exit);
      const load = this.#decodes.get(planned)?.load;
      if (load === undefined) continue;
      load.exit = exit;
      load.setupMs = planned.setupMs(exit);
      load.steps = planned.meanStepsLeft(exit);
    }
    this.#addUp();
    this.#chargeSharedSteps();
  }

  /** The exit that a request's work is counted at: an assigned one, the floor of a dropped one, the deepest without a deadline. */
  exitOf(planned: PlannedRequest): number {
    const assigned = this.#assigned.get(planned);
    if (assigned !== undefined) return assigned;
    if (this.dropped.has(planned)) return planned.floor;
    return this.#decodes.get(planned)?.load.exit ?? planned.maxExit;
  }

  /** Mean decode steps that a request is counted with. */
  stepsOf(planned: PlannedRequest): number {
    return this.#decodes.get(planned)?.load.steps ?? 0;
  }

  /** Work that is due by the end of a request, its own included; ms. */
  demandOf(planned: PlannedRequest): number {
    const decode = this.#decodes.get(planned);
    if (decode === undefined) return 0;
    const { exit, setupMs, steps, isCounted } = decode.load;
    return decode.demandMs + (isCounted ? 0 : setupMs + steps * this.#tokenMs(exit));
  }

  /** Time until the end of a request that no work takes; negative where work takes more, ms. */
  slackOf(planned: PlannedRequest): number {
    return (this.#decodes.get(planned)?.remainingMs ?? Infinity) - this.demandOf(planned);
  }

  /**
   * Least slack of other requests with an earlier deadline and a known length, each at its floor. An estimated length
   * holds no prompt up: its mean is soon wrong, and a thin batch makes all requests late.
   */
  slackBefore(dueAt: number, self: PlannedRequest): number {
    let least = Infinity;
    for (const { load, dueAt: before, remainingMs, floorDemandMs } of this.#phases) {
      if (before >= dueAt) break;
      if (load.isCounted && load.planned !== self && load.planned.request.isExactLength) {
        least = Math.min(least, remainingMs - floorDemandMs);
      }
    }
    return least;
  }

  /**
   * Headroom of a request: the time until its deadlines over the work due by then, with every request at its floor. It is 0
   * where a later deadline fits without the request, but not with it. Call it last: it leaves the demand without shares.
   * @param beyondMs time at the floor that the request needs beyond its mean, for a stated probability
   * @returns without, and with that time
   */
  headrooms(self: PlannedRequest, beyondMs: number): [number, number] {
    const own = this.#decodes.get(self)?.load;
    if (own === undefined) return [Infinity, Infinity];
    own.isCounted = false;
    this.#addUp();
    const wasLate = this.#phases.map(({ demandMs, remainingMs }) => demandMs > remainingMs);
    own.isCounted = true;
    this.#addUp();
    let [likely, guaranteed] = [Infinity, Infinity];
    for (const [p, { load, remainingMs, isPrefill, demandMs, arrivalsMs }] of this.#phases.entries()) {
      if (load === own) {
        const work = demandMs + Math.min(1, this.#state.policy.arrivalHeadroom) * arrivalsMs;
        likely = Math.min(likely, remainingMs / work);
        guaranteed = Math.min(guaranteed, remainingMs / (isPrefill ? work : work + beyondMs));
      } else if (load.isCounted && demandMs > remainingMs && wasLate[p] === false) return [0, 0];
    }
    return [likely, guaranteed];
  }

  /** Takes time for a row without a deadline that runs beside all others, if there is slack for it. */
  tryBackfill(exit: number): boolean {
    const { rowMs } = at(this.#costs, exit);
    for (const phase of this.#phases) {
      phase.addedMs = rowMs * phase.stepsBefore + this.#deeperMs(phase.stepsBefore, 0, exit);
      if (!phase.load.isCounted || phase.addedMs <= 0) continue;
      if (this.#slackOf(phase) < 0) return false;
    }
    this.#take(exit, this.#phases.at(-1)?.stepsBefore ?? 0);
    return true;
  }

  /**
   * Makes a request deeper where the objective gains: the value of its own path, less what all other requests lose by the
   * time that it takes. A known length is met or not, so no deadline of a known length may be missed for depth.
   */
  tryDeepen(planned: PlannedRequest, to: number): boolean {
    const decode = this.#decodes.get(planned);
    if (decode === undefined) return false;
    const own = decode.load;
    const { exit: from } = own;
    const { deep, rest } = planned.path(to);
    const setupMs = planned.setupMs(to) - own.setupMs;
    const rowMs = at(this.#costs, to).rowMs - at(this.#costs, from).rowMs;
    const ownMs = this.#rowsMs(planned, to) - this.#rowsMs(planned, from);
    const isLongest = own.steps >= at(this.#stepsByDepth, from);
    const savedMs = isLongest ? Math.min(0, deep + rest - own.steps) * at(this.#costs, from).fixedMs : 0;
    // Other requests only lose, so the request's own gain comes first.
    let [isStarted, isOver] = [true, true];
    const add = (phase: Phase): number => {
      const runs = isOver ? deep : Math.min(own.sharedSteps, deep, phase.stepsBefore);
      phase.addedMs =
        (isStarted ? setupMs : 0) + (isOver ? ownMs + savedMs : runs * rowMs) + this.#deeperMs(runs, from, to);
      return phase.addedMs;
    };
    const ownAdded = add(decode);
    const ownSlack = this.#slackOf(decode);
    if (planned.request.isExactLength && ownSlack < 0) return false;
    let gain = planned.pathValue(to, ownSlack) - planned.pathValue(from, ownSlack + ownAdded);
    [isStarted, isOver] = [false, false];
    for (const phase of this.#phases) {
      if (gain <= 0) return false;
      const { load, isPrefill } = phase;
      isStarted ||= load === own;
      isOver ||= phase === decode;
      const added = add(phase);
      if (phase === decode || !load.isCounted || added <= 0) continue;
      const slack = this.#slackOf(phase);
      const other = load.planned;
      if (other.request.isExactLength && slack < 0) return false;
      if (isPrefill && slack < 0 && slack + added >= 0) return false;
      if (other.request.isExactLength || isPrefill) continue;
      const loss = other.pathValue(load.exit, slack + added) - other.pathValue(load.exit, slack);
      gain -= loss * (other.request.serviceClass === 'guaranteed' ? this.#state.policy.guaranteeWeight : 1);
    }
    if (gain <= 0) return false;
    own.exit = to;
    own.setupMs = planned.setupMs(to);
    own.steps = deep + rest;
    this.#take(to, deep);
    return true;
  }

  #tokenMs(exit: number): number {
    return tokenMs(at(this.#costs, exit), 1);
  }

  /** Row costs of a request's path: its steps at an exit, and later at its floor; ms. */
  #rowsMs(planned: PlannedRequest, exit: number): number {
    const { deep, rest } = planned.path(exit);
    return deep * at(this.#costs, exit).rowMs + rest * at(this.#costs, planned.floor).rowMs;
  }

  /** Time left before a deadline while a share of the whole budget stays unspent, with what is tried. */
  #slackOf(phase: Phase): number {
    const { reserve, arrivalHeadroom } = this.#state.policy;
    const { remainingMs, windowMs, demandMs, addedMs, arrivalsMs } = phase;
    return remainingMs - reserve * windowMs - demandMs - addedMs - arrivalHeadroom * arrivalsMs;
  }

  #take(exit: number, steps: number): void {
    for (const phase of this.#phases) phase.demandMs += phase.addedMs;
    this.#reach(exit, steps);
  }

  #reach(exit: number, steps: number): void {
    this.#stepsByDepth.forEach((known, depth, all) => {
      if (depth <= exit) all[depth] = Math.max(known, steps);
    });
  }

  /** Fixed cost of the steps that no other row brings as deep, ms. */
  #deeperMs(runs: number, from: number, to: number): number {
    let ms = 0;
    for (let depth = from + 1; depth <= to; depth += 1) {
      const alone = runs - at(this.#stepsByDepth, depth);
      if (alone > 0) ms += alone * (at(this.#costs, depth).fixedMs - at(this.#costs, depth - 1).fixedMs);
    }
    return ms;
  }

  /** By rising deadline, the prefill of a request before its decode. */
  #phasesOf(loads: readonly Load[]): Phase[] {
    const { now, inflation } = this.#state;
    const prefillMs = loads.reduce((sum, { planned, setupMs }) => sum + (planned.isPrefilling ? setupMs : 0), 0);
    const phaseOf = (load: Load, isPrefill: boolean, dueAt: number): Phase => ({
      load,
      isPrefill,
      dueAt,
      remainingMs: Math.max(0, dueAt - now) / inflation,
      windowMs: dueAt === Infinity ? 0 : Math.max(0, dueAt - load.planned.request.arrivedAt) / inflation,
      arrivalsMs: 0,
      demandMs: 0,
      floorDemandMs: 0,
      stepsBefore: 0,
      addedMs: 0,
    });
    const phases: Phase[] = [];
    for (const load of loads) {
      const { deadlines, request, isPrefilling } = load.planned;
      const { end, firstToken, tpotMs } = deadlines;
      const tokens = request.generated + load.steps;
      const firstAt = request.firstTokenAt ?? now + prefillMs;
      const dueAt = tokens < 2 || tpotMs === Infinity ? end : Math.min(end, firstAt + tpotMs * (tokens - 1));
      let prefillAt = -Infinity;
      if (isPrefilling && firstToken !== Infinity && request.firstTokenAt === null) {
        prefillAt = firstToken - this.#tokenMs(load.exit);
        phases.push(phaseOf(load, true, prefillAt));
      }
      phases.push(phaseOf(load, false, Math.max(prefillAt, dueAt)));
    }
    return phases.sort((a, b) => (a.dueAt === b.dueAt ? 0 : a.dueAt - b.dueAt));
  }

  /**
   * Moore-Hodgson: where a deadline can't be met, the largest request due by then is dropped, of the lowest service class
   * first. At median lengths and without a margin: a long answer is only likely to be late.
   */
  #shedLoad(): Set<PlannedRequest> {
    const dropped = new Set<PlannedRequest>();
    for (const { load } of this.#phases) load.steps = load.planned.stepsLeft(load.exit, 0.5);
    const rank = ({ setupMs, steps, exit, planned }: Load): number =>
      setupMs + steps * this.#tokenMs(exit) + 1e12 * CLASS_RANK[planned.request.serviceClass];
    for (;;) {
      this.#addUp();
      const late = this.#phases.findIndex(
        ({ load, demandMs, dueAt }) => load.isCounted && demandMs > Math.max(0, dueAt - this.#state.now),
      );
      if (late < 0) break;
      const due = this.#phases.slice(0, late + 1).filter(({ load }) => load.isCounted);
      const { load } = due.reduce((largest, each) => (rank(each.load) > rank(largest.load) ? each : largest));
      load.isCounted = false;
      dropped.add(load.planned);
    }
    for (const { load } of this.#phases) load.steps = load.planned.meanSteps(load.exit);
    return dropped;
  }

  /** Adds up the demand by deadline. */
  #addUp(): void {
    let [demand, longest, deepestMs, slack] = [0, 0, 0, Infinity];
    const prefilled = new Set<Load>();
    for (const phase of this.#phases) {
      const { load, isPrefill, remainingMs } = phase;
      if (load.isCounted) {
        if (!prefilled.has(load)) demand += load.setupMs;
        if (isPrefill) prefilled.add(load);
        else {
          const { rowMs, fixedMs } = at(this.#costs, load.exit);
          load.sharedSteps = Math.max(0, Math.min(load.steps, longest, rowMs > 0 ? slack / rowMs : Infinity));
          demand += load.steps * (rowMs + fixedMs) - load.sharedSteps * Math.min(fixedMs, deepestMs);
          slack -= load.sharedSteps * rowMs;
          longest = Math.max(longest, load.steps);
          deepestMs = Math.max(deepestMs, fixedMs);
        }
        slack = Math.min(slack, Math.max(0, remainingMs - demand));
      }
      phase.demandMs = demand;
      phase.stepsBefore = longest;
    }
  }

  /** Charges shared rows to the earlier deadlines whose steps they share; call it after `#addUp`, once. */
  #chargeSharedSteps(): void {
    this.#phases.forEach(({ load, isPrefill }, p) => {
      if (!load.isCounted || isPrefill) return;
      this.#reach(load.exit, load.steps);
      if (load.sharedSteps === 0) return;
      for (const before of this.#phases.slice(0, p)) {
        before.demandMs += Math.min(load.sharedSteps, before.stepsBefore) * at(this.#costs, load.exit).rowMs;
      }
    });
  }

  /** Work that is expected to arrive and to be due before each deadline, at the shallowest exit. */
  #expect(arrivals: Arrivals): void {
    const { model, policy, now } = this.#state;
    if (policy.arrivalHeadroom === 0) return;
    const chunk = plannedChunk(policy);
    const positionMs = promptMs(model, 0, chunk, chunk) / chunk;
    for (const phase of this.#phases) {
      if (phase.dueAt === Infinity) break;
      const { requests, positions, tokens } = arrivals.dueWithin(now, phase.dueAt - now);
      // Fewer expected arrivals than ln 2 are more likely none, and count the less.
      const work = positions * positionMs + tokens * at(this.#costs, 0).rowMs;
      phase.arrivalsMs = Math.min(1, requests / Math.LN2) * work;
    }
  }
}

/** A request at its floor, or at its current exit where the change costs more than it saves. */
function loadOf(planned: PlannedRequest, costs: readonly ExitCost[], isCounted: boolean): Load {
  const { isPrefilling, currentExit, maxExit, floor } = planned;
  const totalMs = (exit: number): number =>
    planned.setupMs(exit) + planned.meanSteps(exit) * tokenMs(at(costs, exit), 1);
  const mayStay = !isPrefilling && currentExit <= maxExit && planned.setupMs(floor) > 0;
  const exit = mayStay && totalMs(currentExit) < totalMs(floor) ? currentExit : floor;
  const steps = planned.meanSteps(exit);
  return { planned, exit, setupMs: planned.setupMs(exit), steps, isCounted, sharedSteps: 0 };
}
