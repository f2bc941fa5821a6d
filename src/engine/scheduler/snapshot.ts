/**
 * The whole engine in planning units: every request, the costs that requests share, and the order of service. It is
 * built whole, then read.
 *
 * Knows: sequences, the cost model. Must not know: exits that are chosen.
 */
import { type CostModel, type ExitIndex, decodeMs } from './cost/model.js';
import { at } from '../../util/at.js';
import { type ExitCost, affineStepCost } from './cost/step-costs.js';
import type { OutputLengths, SentenceLength } from './output-length.js';
import { type Estimates, type Moment, PlannedRequest, type Utility } from './planned-request.js';
import { type Policy, plannedChunk } from './policy.js';
import type { Sequence, Terms } from './sequence.js';

/** The sequences of the engine, and the room that they have. */
export interface Occupancy {
  readonly now: number;
  /** Sequences that may be live at once. */
  readonly slots: number;
  readonly live: readonly Sequence[];
  readonly waiting: readonly Sequence[];
  /** Positions that the KV cache holds for live sequences. */
  readonly kvPositions: number;
  /** Nets that sleep; absent: none. */
  readonly nets?: readonly Sequence[];
}

export class Snapshot implements Moment {
  readonly model: CostModel;
  readonly policy: Policy;
  readonly lengths: OutputLengths;
  readonly utility: Utility;
  readonly sentences: SentenceLength;
  readonly now: number;
  readonly chunk: number;
  /** By exit, with the margin. */
  readonly costs: readonly ExitCost[];
  readonly oneRowMs: readonly number[];
  readonly batchStepMs: number;
  /** Live ones, then the waiting, as given. */
  readonly requests: readonly PlannedRequest[];
  #nets: readonly PlannedRequest[] | undefined;
  /** The waiting ones of all snapshots of the instant. */
  readonly #waiting: Map<Sequence, PlannedRequest>;
  /** Mean of all requests. */
  readonly #context: number;

  /** @param before an earlier snapshot; the waiting requests of one instant are planned once */
  constructor(
    readonly engine: Occupancy,
    estimates: Estimates,
    before: Snapshot | null = null,
  ) {
    const { now, live, waiting, slots } = engine;
    this.model = estimates.model;
    this.policy = estimates.policy;
    this.lengths = estimates.lengths;
    this.utility = estimates.utility;
    this.sentences = estimates.sentences;
    this.now = now;
    this.chunk = plannedChunk(this.policy);
    const count = live.length + waiting.length;
    let context = 0;
    for (const { tokens } of live) context += tokens.length - 1;
    for (const { tokens } of waiting) context += tokens.length - 1;
    this.#context = context / Math.max(1, count);
    const careful = 1 + this.policy.margin;
    const rows = Math.min(slots, count + (engine.nets?.length ?? 0));
    const costs = affineStepCost(this.model, this.#context, rows);
    this.costs = costs.map(({ fixedMs, rowMs }) => ({ fixedMs: fixedMs * careful, rowMs: rowMs * careful }));
    this.oneRowMs = costs.map(({ fixedMs, rowMs }) => fixedMs + rowMs);
    const exits = live.filter(isDecoding).map(({ exit }) => exit);
    this.batchStepMs = exits.length === 0 ? 0 : this.stepOf(exits);
    const isSame = before?.now === now && before.model === this.model;
    this.#waiting = isSame ? before.#waiting : new Map<Sequence, PlannedRequest>();
    this.requests = [...live.map((each) => new PlannedRequest(each, this)), ...waiting.map((each) => this.#of(each))];
  }

  #of(waiting: Sequence): PlannedRequest {
    const known = this.#waiting.get(waiting) ?? new PlannedRequest(waiting, this);
    this.#waiting.set(waiting, known);
    return known;
  }

  /** A request that is not here, under terms that may differ from its own. */
  proposed(sequence: Sequence, change: Partial<Terms> = {}): PlannedRequest {
    const { arrivedAt, budget, serviceClass } = sequence;
    return new PlannedRequest(sequence, this, { arrivedAt, budget, serviceClass, ...change });
  }

  /** The nets that sleep. Failures of upstreams come together, so each is a promise that may begin at once. */
  get nets(): readonly PlannedRequest[] {
    const { nets = [] } = this.engine;
    return (this.#nets ??= nets.map((each) => this.proposed(each, { serviceClass: 'guaranteed' })));
  }

  /** Milliseconds of a step of one row at each of these exits. */
  stepOf(exits: readonly ExitIndex[]): number {
    const rows = new Int32Array(this.model.shape.exits.length);
    for (const exit of exits) rows[exit] = at(rows, exit) + 1;
    return decodeMs(this.model, rows, this.#context);
  }
}

/** Whether a live sequence has begun its answer, and has all but its last position. */
function isDecoding({ generated, frontiers, tokens }: Sequence): boolean {
  return generated > 0 && (frontiers[0] ?? 0) >= tokens.length - 1;
}

/** Share of the machine that promises leave to other requests: at least that of the keys without a promise. */
export function othersShare(requests: readonly PlannedRequest[], { noBudgetShare }: Policy): number {
  const keys = new Set<string>();
  const promised = new Set<string>();
  for (const { sequence, isPromised } of requests) {
    keys.add(sequence.tenant);
    if (isPromised) promised.add(sequence.tenant);
  }
  return promised.size === 0 ? noBudgetShare : Math.max(noBudgetShare, 1 - promised.size / keys.size);
}

/** Slots that requests without a promise keep: never all. */
export function protectedRows(requests: readonly PlannedRequest[], policy: Policy, slots: number): number {
  const others = requests.filter(({ isPromised }) => !isPromised).length;
  const share = Math.max(1, Math.floor(othersShare(requests, policy) * slots));
  return Math.max(0, Math.min(others, share, slots - 1));
}

export interface EdfOrder {
  /** Requests whose deadlines can be met in this order. */
  readonly due: readonly PlannedRequest[];
  readonly all: readonly PlannedRequest[];
}

/**
 * All requests in order of service: earliest deadline first, as far as deadlines can be met one after the other. Other
 * requests follow by arrival: without a budget, or with one that can't be met.
 *
 * Without load shedding each prompt would start when it is nearly late, and in overload all of them would be late.
 */
export function inOrder(requests: readonly PlannedRequest[]): EdfOrder {
  const byArrival = [...requests].sort((a, b) => a.terms.arrivedAt - b.terms.arrivedAt);
  const byDeadline = byArrival.filter(({ dueAt }) => dueAt < Infinity).sort((a, b) => a.dueAt - b.dueAt);
  const due = new Set<PlannedRequest>();
  let waitMs = 0;
  for (const each of byDeadline) {
    if (!each.isReachableIn(waitMs)) continue;
    due.add(each);
    if (each.isPrefilling) waitMs += each.prefillMs(each.minExit);
  }
  return { due: [...due], all: [...due, ...byArrival.filter((each) => !due.has(each))] };
}
