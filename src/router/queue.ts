/**
 * Order of service: earliest deadline first, as far as deadlines can be met one after the other. Other requests follow by
 * arrival: without a budget, or with one that can't be met. They get their share of the starts, so none waits for ever.
 *
 * Without load shedding each prompt would start when it is nearly late, and in overload all of them would be late.
 */
import { PlanningState } from './planning-state.js';
import type { PlannedRequest, Planning } from './request.js';
import type { EngineState, RequestView } from './types.js';

export interface Ordered {
  readonly requests: RequestView[];
  /** Those without a deadline that can be met. */
  readonly otherIds: ReadonlySet<string>;
}

export interface Served {
  /** Requests whose deadlines can be met in this order. */
  readonly due: readonly PlannedRequest[];
  readonly others: readonly PlannedRequest[];
}

/** All requests in order of service. */
export function served(requests: readonly PlannedRequest[]): Served {
  const byArrival = [...requests].sort((a, b) => a.request.arrivedAt - b.request.arrivedAt);
  const byDeadline = byArrival.filter(({ dueAt }) => dueAt < Infinity).sort((a, b) => a.dueAt - b.dueAt);
  const due = new Set<PlannedRequest>();
  let waitMs = 0;
  for (const each of byDeadline) {
    if (!each.isReachableIn(waitMs)) continue;
    due.add(each);
    if (each.isPrefilling) waitMs += each.setupMs(each.minExit);
  }
  return { due: [...due], others: byArrival.filter((each) => !due.has(each)) };
}

/** Requests in order of service. */
export function inService(requests: readonly PlannedRequest[]): readonly PlannedRequest[] {
  const { due, others } = served(requests);
  return [...due, ...others];
}

/**
 * The waiting in the order in which they get slots.
 * @param isOtherDue whether the oldest of the others is due for its share of the starts
 */
export function order(engine: EngineState, planning: Planning, isOtherDue = false): Ordered {
  const { requests } = new PlanningState(engine, planning, Infinity);
  const isWaiting = ({ live }: PlannedRequest): boolean => live === null;
  const { due, others: all } = served(requests);
  const others = all.filter(isWaiting);
  const first = isOtherDue ? others.slice(0, 1) : [];
  return {
    requests: [...new Set([...first, ...due.filter(isWaiting), ...others])].map(({ request }) => request),
    otherIds: new Set(others.map(({ request }) => request.id)),
  };
}
