/**
 * Which answers end at their deadline rather than late: those whose next token is expected after it.
 *
 * Knows: budgets, how long a step should take. Must not know: who runs in which step; who ends an answer that a slow step
 * holds up (the gateway, by a timer: so there is no need to be careful here).
 */
import type { Policy, WaitingRequest } from './types.js';

/**
 * Whether a request with `truncate` ends before this step.
 * @param stepMs what the coming one is expected to take, or what the request still waits for until its first token
 */
export function isOverdue(
  { budget, arrivedAt }: WaitingRequest,
  now: number,
  stepMs: number,
  { requestOverheadMs }: Policy,
): boolean {
  if (budget?.onMiss !== 'truncate' || budget.totalMs === null) return false;
  return stepMs > arrivedAt + budget.totalMs - requestOverheadMs - now;
}
