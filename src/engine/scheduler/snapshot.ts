/**
 * The whole engine in planning units: every request, the costs that requests share, and the order of service.
 *
 * Knows: sequences, the cost model. Must not know: exits that are chosen.
 */
import { affineStepCost, stepMsOf } from './cost/step-costs.js';
import { type Estimates, type Moment, PlannedRequest } from './planned-request.js';
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

export interface Snapshot extends Moment {
  readonly engine: Occupancy;
  /** Live ones, then the waiting, as given. */
  readonly requests: readonly PlannedRequest[];
  /** The nets that sleep. Failures of upstreams come together, so each is a promise that may begin at once. */
  readonly nets: readonly PlannedRequest[];
}

export function snapshotOf(engine: Occupancy, estimates: Estimates): Snapshot {
  const { now, live, waiting, slots, nets = [] } = engine;
  const { model, policy } = estimates;
  const all = [...live, ...waiting];
  const context = all.reduce((sum, { tokens }) => sum + tokens.length - 1, 0) / Math.max(1, all.length);
  const rows = Math.min(slots, all.length + nets.length);
  const careful = 1 + policy.margin;
  const affine = affineStepCost(model, context, rows);
  const costs = affine.map(({ fixedMs, rowMs }) => ({ fixedMs: fixedMs * careful, rowMs: rowMs * careful }));
  const exits = live.filter(isDecoding).map(({ exit }) => exit);
  const moment: Moment = { ...estimates, now, chunk: plannedChunk(policy), costs, batchStepMs: stepMsOf(costs, exits) };
  return {
    ...moment,
    engine,
    requests: all.map((each) => new PlannedRequest(each, moment)),
    nets: nets.map((each) => proposed(moment, each, { serviceClass: 'guaranteed' })),
  };
}

/** A request that is not here, under terms that may differ from its own. */
export function proposed(moment: Moment, sequence: Sequence, change: Partial<Terms> = {}): PlannedRequest {
  const { arrivedAt, budget, serviceClass } = sequence;
  return new PlannedRequest(sequence, moment, { arrivedAt, budget, serviceClass, ...change });
}

/** Whether a live sequence has begun its answer, and has all but its last position. */
function isDecoding({ generated, frontiers, tokens }: Sequence): boolean {
  return generated > 0 && (frontiers[0] ?? 0) >= tokens.length - 1;
}

/** Share of the machine that promises leave to other requests: at least that of the keys without a promise. */
export function othersShare(requests: readonly PlannedRequest[], { noBudgetShare }: Policy): number {
  const keys = new Set(requests.map(({ sequence }) => sequence.tenant));
  const promised = new Set(requests.filter(({ isPromised }) => isPromised).map(({ sequence }) => sequence.tenant));
  return promised.size === 0 ? noBudgetShare : Math.max(noBudgetShare, 1 - promised.size / keys.size);
}

/** Slots that requests without a promise keep: never all. */
export function protectedRows(requests: readonly PlannedRequest[], policy: Policy, slots: number): number {
  const others = requests.filter(({ isPromised }) => !isPromised).length;
  const share = Math.max(1, Math.floor(othersShare(requests, policy) * slots));
  return Math.max(0, Math.min(others, share, slots - 1));
}

/**
 * All requests in order of service: earliest deadline first where it can be met. Other requests follow by arrival:
 * without a budget, or with one that can't be met.
 *
 * Without load shedding each prompt would start when it is nearly late, and in overload all of them would be late.
 */
export function inOrder(requests: readonly PlannedRequest[]): PlannedRequest[] {
  const byArrival = requests.toSorted((a, b) => a.terms.arrivedAt - b.terms.arrivedAt);
  const due = byArrival.filter(({ isReachable }) => isReachable).sort(byDue);
  return [...due, ...byArrival.filter(({ isReachable }) => !isReachable)];
}

/** Sorts by deadline; equal ones stay as they are. */
export const byDue = (a: PlannedRequest, b: PlannedRequest): number => (a.dueAt === b.dueAt ? 0 : a.dueAt - b.dueAt);
