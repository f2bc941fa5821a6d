/** The decisions of a plan so far: requests that are admitted, rejected, or end before the step. Must not know: why. */
import type { Admitted, PlannedEvent, RejectedEvent } from '../../protocol/index.js';
import { earlyEnd } from '../../protocol/early-end.js';
import type { Sequence } from './sequence.js';
import type { SequenceEnd } from './step-plan.js';
import type { Admission, Rejected } from './types.js';

const UNNAMED: Omit<Rejected, 'kind'> = { leastFeasibleMs: null };

export class PlanRecord {
  readonly admitted: PlannedEvent[] = [];
  readonly rejected: RejectedEvent[] = [];
  readonly ended: SequenceEnd[] = [];

  /** @param at time of the plan */
  constructor(readonly at: number) {}

  admit({ id, request, isDryRun }: Sequence, admission: Exclude<Admission, Rejected>): void {
    const plan: Omit<Admitted, 'kind'> & { guaranteedTokens?: number } = { ...admission };
    delete plan.guaranteedTokens;
    this.admitted.push({
      ...plan,
      id,
      landing: earlyEnd(request),
      ...(isDryRun && { isDryRun }),
    });
    if (isDryRun) this.ended.push({ id, reason: 'length', isDryRun });
  }

  reject({ id }: Sequence, { leastFeasibleMs, promised }: Omit<Rejected, 'kind'> = UNNAMED): void {
    this.rejected.push({
      id,
      reason: 'budget_infeasible',
      leastFeasibleMs,
      ...(promised && { promised }),
    });
  }
}
