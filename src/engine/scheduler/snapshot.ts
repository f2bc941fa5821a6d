/**
 * The whole engine in planning units: every request, the costs that requests share, and the order of service. It is
 * built whole, then read.
 *
 * Knows: sequences, the cost model. Must not know: exits that are chosen.
 */
import { type CostModel, type ExitIndex, at } from './cost/model.js';
import { type ExitCost, type StepMs, affineStepCost, stepTable } from './cost/step-costs.js';
import type { PromisedPart } from '../../protocol/index.js';
import type { OutputLengths } from './output-length.js';
import { type Estimates, type Moment, PlannedRequest } from './planned-request.js';
import type { Policy } from './policy.js';
import { Sequence, type Terms } from './sequence.js';
import type { SentenceLength } from './sentence-length.js';
import type { Utility } from './utility.js';

/** A waiting sequence under other terms than its own. */
export interface Proposal {
  readonly sequence: Sequence;
  readonly terms: Terms;
}

/** The sequences of the engine, and the room that they have. */
export interface Occupancy {
  readonly now: number;
  /** Sequences that may be live at once. */
  readonly slots: number;
  readonly live: readonly Sequence[];
  readonly waiting: readonly (Sequence | Proposal)[];
  /** Positions that the KV cache holds for live sequences. */
  readonly kvPositions: number;
  /** Parts of armed nets, which promises to other requests leave free; absent: none. */
  readonly nets?: readonly PromisedPart[];
}

/**
 * The requests of several states of one instant, each of them made once. A state with other rows has requests of its
 * own, since they wait for the steps of the rows.
 */
export class PlannedRequests {
  readonly #all = new Map<Sequence | Proposal, PlannedRequest>();
  #batchStepMs = NaN;

  /** @param moment of the same instant, estimates and sequences each time */
  of(each: Sequence | Proposal, moment: Moment): PlannedRequest {
    if (moment.batchStepMs !== this.#batchStepMs) this.#all.clear();
    this.#batchStepMs = moment.batchStepMs;
    let planned = this.#all.get(each);
    if (planned === undefined) {
      planned = each instanceof Sequence ? new PlannedRequest(each, moment) : plannedOf(each, moment);
      this.#all.set(each, planned);
    }
    return planned;
  }
}

const plannedOf = ({ sequence, terms }: Proposal, moment: Moment): PlannedRequest =>
  new PlannedRequest(sequence, moment, terms);

export class Snapshot implements Moment {
  readonly model: CostModel;
  readonly policy: Policy;
  readonly lengths: OutputLengths;
  readonly utility: Utility;
  readonly sentences: SentenceLength;
  readonly now: number;
  readonly batchStepMs: number;
  /** Live ones, then the waiting, as given. */
  readonly requests: readonly PlannedRequest[];
  /** By exit, with the margin. */
  readonly costs: readonly ExitCost[];
  /** Share of the machine that promises leave to other requests, and the slots that these keep: never all. */
  readonly othersShare: number;
  readonly protectedRows: number;
  /** Milliseconds of a step, by rows at each exit, at the mean context of all requests. */
  readonly #step: StepMs;

  /**
   * @param waitingLimit how many of the waiting count; admission needs all, since the new request may be the last
   * @param planned those of states that differ by a few requests
   */
  constructor(
    readonly occupancy: Occupancy,
    estimates: Estimates,
    waitingLimit = estimates.policy.plannedWaiting,
    planned = new PlannedRequests(),
  ) {
    const { now, live, waiting, slots } = occupancy;
    this.model = estimates.model;
    this.policy = estimates.policy;
    this.lengths = estimates.lengths;
    this.utility = estimates.utility;
    this.sentences = estimates.sentences;
    this.now = now;
    const counted = waiting.slice(0, waitingLimit);
    const count = live.length + counted.length;
    let context = 0;
    for (const { tokens } of live) context += tokens.length - 1;
    for (const each of counted) context += sequenceOf(each).tokens.length - 1;
    this.#step = stepTable(this.model, context / Math.max(1, count));
    const rows = live.filter(isDecoding).map(({ exit }) => exit);
    this.batchStepMs = rows.length === 0 ? 0 : this.stepOf(rows);
    const careful = 1 + this.policy.margin;
    this.costs = affineStepCost(this.#step, this.model.shape.exits.length, count).map(({ rowMs, fixedMs }) => {
      return { rowMs: rowMs * careful, fixedMs: fixedMs * careful };
    });
    this.requests = [...live, ...counted].map((each) => planned.of(each, this));
    const others = this.requests.filter(({ isPromised }) => !isPromised).length;
    this.othersShare = othersShare(this.requests, this.policy.noBudgetShare);
    this.protectedRows = Math.max(0, Math.min(others, Math.max(1, Math.floor(this.othersShare * slots)), slots - 1));
  }

  /** Milliseconds of a step of one row at each of these exits. */
  stepOf(exits: readonly ExitIndex[]): number {
    const rows = new Int32Array(this.model.shape.exits.length);
    for (const exit of exits) rows[exit] = at(rows, exit) + 1;
    return this.#step(rows);
  }

  /** Whether any request has a deadline. */
  get hasDeadlines(): boolean {
    return this.requests.some(({ hasDeadline }) => hasDeadline);
  }
}

/** A sequence under terms that differ from its own. */
export function proposed(sequence: Sequence, change: Partial<Terms>): Proposal {
  const { arrivedAt, budget, minExit, serviceClass } = sequence;
  return { sequence, terms: { arrivedAt, budget, minExit, serviceClass, ...change } };
}

export function sequenceOf(each: Sequence | Proposal): Sequence {
  return each instanceof Sequence ? each : each.sequence;
}

/** Requests without a promise have their share, and at least that of the keys that have no promise. */
function othersShare(requests: readonly PlannedRequest[], noBudgetShare: number): number {
  const keys = new Set(requests.map(({ sequence }) => sequence.tenant));
  const promised = new Set(requests.filter(({ isPromised }) => isPromised).map(({ sequence }) => sequence.tenant));
  return promised.size === 0 ? noBudgetShare : Math.max(noBudgetShare, 1 - promised.size / keys.size);
}

/** Whether a live sequence has begun its answer, and has all but its last position. */
function isDecoding({ generated, frontiers, tokens }: Sequence): boolean {
  return generated > 0 && (frontiers[0] ?? 0) >= tokens.length - 1;
}

export interface EdfOrder {
  /** Requests whose deadlines can be met in this order. */
  readonly due: readonly PlannedRequest[];
  readonly others: readonly PlannedRequest[];
}

/**
 * All requests in order of service: earliest deadline first, as far as deadlines can be met one after the other. Other
 * requests follow by arrival: without a budget, or with one that can't be met.
 *
 * Without load shedding each prompt would start when it is nearly late, and in overload all of them would be late.
 */
export function edfOrder(requests: readonly PlannedRequest[]): EdfOrder {
  const byArrival = [...requests].sort((a, b) => a.terms.arrivedAt - b.terms.arrivedAt);
  const byDeadline = byArrival.filter(({ dueAt }) => dueAt < Infinity).sort((a, b) => a.dueAt - b.dueAt);
  const due = new Set<PlannedRequest>();
  let waitMs = 0;
  for (const each of byDeadline) {
    if (!each.isReachableIn(waitMs)) continue;
    due.add(each);
    if (each.isPrefilling) waitMs += each.prefillMs(each.minExit);
  }
  return { due: [...due], others: byArrival.filter((each) => !due.has(each)) };
}

/** Requests in order of service. */
export function serviceOrder(requests: readonly PlannedRequest[]): readonly PlannedRequest[] {
  const { due, others } = edfOrder(requests);
  return [...due, ...others];
}
