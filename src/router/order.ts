/**
 * Order of service: earliest feasible deadline first; requests without one have a virtual one, so none starves.
 *
 * Knows: the waiting and what they would need alone. Must not know: who holds slots.
 */
import { serviceDeadline } from './batch.js';
import { jobOf } from './jobs.js';
import type { LengthModel } from './lengths.js';
import type { CostModel } from './model.js';
import type { Policy, WaitingRequest } from './types.js';

/** The waiting in the order in which they should get slots; ties by arrival. */
export function order<Request extends WaitingRequest>(
  waiting: readonly Request[],
  now: number,
  lengths: LengthModel,
  model: CostModel,
  policy: Policy,
): Request[] {
  if (waiting.length < 2) return [...waiting];
  return waiting
    .map((request) => ({
      request,
      due: serviceDeadline(jobOf(request, null, model, lengths, policy), now, model, policy),
    }))
    .sort((a, b) => a.due - b.due || a.request.arrivedAt - b.request.arrivedAt)
    .map(({ request }) => request);
}
