/**
 * Order of service: earliest reachable deadline first, and every sixth start for the oldest late request.
 *
 * A late request has no budget, or one that can't be met any more. Without a share of the starts it would wait behind each
 * new request in overload; with the first place, every new request would be late as well.
 */
import { PlanningState } from './planning-state.js';
import type { PlannedRequest, Planning } from './request.js';
import type { EngineState, RequestView } from './types.js';

/** Starts of reachable requests before a late one is due. */
const STARTS_BEFORE_LATE = 5;

export interface Ordered {
  readonly requests: RequestView[];
  readonly lateIds: ReadonlySet<string>;
}

/**
 * The waiting in the order in which they get slots; ties by arrival.
 * @param starts of reachable requests since a late one began
 */
export function order(engine: EngineState, planning: Planning, starts = 0): Ordered {
  const { requests } = new PlanningState({ ...engine, live: [] }, planning, Infinity);
  const arrivedAt = ({ request }: PlannedRequest): number => request.arrivedAt;
  const sorted = [...requests].sort((a, b) => a.dueAt - b.dueAt || arrivedAt(a) - arrivedAt(b));
  const late = sorted.filter(({ isReachable }) => !isReachable);
  const lateIds = new Set(late.map(({ request }) => request.id));
  const oldest = Math.min(...late.map(arrivedAt));
  const first = starts < STARTS_BEFORE_LATE ? [] : late.filter((each) => arrivedAt(each) === oldest).slice(0, 1);
  const all = new Set([...first, ...sorted.filter(({ request }) => !lateIds.has(request.id)), ...late]);
  return { requests: [...all].map(({ request }) => request), lateIds };
}
