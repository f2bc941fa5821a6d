/**
 * Order of service: earliest feasible deadline first; requests without one have a virtual one, so none starves.
 *
 * Knows: the waiting, how many slots are held by whom. Must not know: memory.
 *
 * A virtual deadline alone is no share: where many are late, all of theirs have passed, and new requests that could
 * still be in time would wait behind every one of them until they are late as well. So requests without a feasible
 * deadline go before others only while they hold less than their share of the slots.
 */
import { isOpen, serviceDeadline } from './batch.js';
import { isCrowded } from './crowd.js';
import { jobOf } from './jobs.js';
import type { CostModel } from './model.js';
import type { Policy, RouterState, WaitingRequest } from './types.js';

/**
 * The waiting in the order in which they should get slots; ties by arrival.
 * @param state its waiting ones are those that are to be ordered
 */
export function order<Request extends WaitingRequest>(
  waiting: readonly Request[],
  state: Omit<RouterState, 'waiting'>,
  model: CostModel,
  policy: Policy,
): Request[] {
  if (waiting.length < 2) return [...waiting];
  const { now, slots, live, learned } = state;
  const crowded = isCrowded({ slots, waiting });
  const placed = waiting
    .map((request) => {
      const job = jobOf(request, null, model, learned.lengths, policy);
      const open = isOpen(job, now, model, policy, crowded);
      return { request, open, due: serviceDeadline(job, now, open, model, policy) };
    })
    .sort((a, b) => a.due - b.due || a.request.arrivedAt - b.request.arrivedAt);
  if (placed.every(({ open }) => open) || !placed.some(({ open }) => open)) return placed.map(({ request }) => request);
  const held = live.filter(
    (each) => !isOpen(jobOf(each, each, model, learned.lengths, policy), now, model, policy, crowded),
  );
  let share = Math.max(1, Math.round(policy.noBudgetShare * slots)) - held.length;
  const behind = new Set(placed.filter((place) => !place.open && share-- <= 0));
  return [...placed.filter((place) => !behind.has(place)), ...behind].map(({ request }) => request);
}
