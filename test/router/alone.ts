/** Admission of one request by itself. */
import {
  type Admission,
  type CostModel,
  type Policy,
  type RouterState,
  type WaitingRequest,
  admitAll,
} from '../../src/router/planner.js';

export function admit(request: WaitingRequest, state: RouterState, model: CostModel, policy: Policy): Admission {
  const [admission] = admitAll([request], state, model, policy);
  if (admission === undefined) throw new Error('one request has one admission');
  return admission;
}
