/**
 * Order of service: earliest reachable deadline first, and every sixth start for the oldest late request.
 *
 * A late request has no budget, or one that can't be met any more. Without a share of the starts it would wait behind each
 * new request in overload; with the first place, every new request would be late as well.
 */
import { type Planning, isCongested, isReachable, serviceDeadline } from './planning-state.js';
import { plannedRequest } from './request.js';
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
export function order(state: EngineState, planning: Planning, starts = 0): Ordered {
  const { now, waiting } = state;
  const { model, lengths, policy } = planning;
  const congested = isCongested(state);
  const placed = waiting
    .map((request) => {
      const planned = plannedRequest(request, null, model, lengths, policy);
      const isLate = !isReachable(planned, now, congested, planning);
      return { request, isLate, due: serviceDeadline(planned, now, congested, planning) };
    })
    .sort((a, b) => a.due - b.due || a.request.arrivedAt - b.request.arrivedAt);
  const late = placed.filter(({ isLate }) => isLate);
  const first = late.reduce<(typeof late)[number] | null>(
    (oldest, each) => (oldest === null || each.request.arrivedAt < oldest.request.arrivedAt ? each : oldest),
    null,
  );
  const isLateDue = first !== null && starts >= STARTS_BEFORE_LATE;
  const rest = [...placed.filter(({ isLate }) => !isLate), ...late].filter((each) => !isLateDue || each !== first);
  return {
    requests: [...(isLateDue ? [first] : []), ...rest].map(({ request }) => request),
    lateIds: new Set(late.map(({ request }) => request.id)),
  };
}

/**
 * Whether a request with `truncate` ends before this step: its next token is expected after its deadline.
 * @param stepMs predicted time of the step, or time until the first token
 */
export function isOverdue(
  { budget, arrivedAt }: RequestView,
  now: number,
  stepMs: number,
  requestOverheadMs: number,
): boolean {
  if (budget?.onMiss !== 'truncate' || budget.totalMs === null) return false;
  return stepMs > arrivedAt + budget.totalMs - requestOverheadMs - now;
}
