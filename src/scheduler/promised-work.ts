/** The engine time of a promise, for dry runs whose callers add promises up. Must not know: other requests. */
import { stepTable } from '../cost/step-costs.js';
import type { PromisedWork } from '../protocol/index.js';
import { PlannedRequest } from './planned-request.js';
import type { Sequence } from './sequence.js';
import type { Snapshot } from './snapshot.js';

/** The work of a request's promise at its shallowest exit. @param careful factor on all times, 1 or more */
export function promisedWork(request: Sequence, state: Snapshot, careful: number): PromisedWork {
  const self = new PlannedRequest(request, state);
  const { minExit: exit, target } = self;
  const { model, occupancy, policy } = state;
  const { slots } = occupancy;
  const rows = new Int32Array(model.shape.exits.length).fill(slots, exit, exit + 1);
  const stepMs = stepTable(model, target)(rows);
  const tokens = careful * (1 + policy.margin) * self.guaranteedSteps(exit);
  const rowMs = slots > 1 ? Math.max(0, stepMs - self.stepMs(exit)) / (slots - 1) : 0;
  const prefillMs = careful * self.prefillMs(exit);
  return { prefillMs, fullMs: prefillMs + (tokens * stepMs) / slots, besideMs: tokens * rowMs };
}
