/**
 * Which answers end at their deadline rather than late: those whose next token would come after it.
 *
 * Knows: budgets, how long a step takes and how far that may be off. Must not know: who runs in which step.
 */
import { carefulFactor } from './correct.js';
import { type CostModel, type Work, predictMs } from './model.js';
import type { Policy, WaitingRequest } from './types.js';

/** The step that comes, in ms: what is expected, and what it rarely exceeds. */
export interface NextStep {
  readonly expectedMs: number;
  readonly carefulMs: number;
}

/** By how much an answer may be late if it would be empty otherwise, ms. */
const LATE_FIRST = 30;

export function nextStep(work: Work, model: CostModel): NextStep {
  const expectedMs = predictMs(model, work);
  return { expectedMs, carefulMs: expectedMs * carefulFactor(model.correction) };
}

/**
 * Whether a request with `truncate` ends before this step. Later tokens must not be late: one of them is worth less than
 * the promise. The first one is worth waiting for: without it the answer is empty.
 * @param step the coming one, or what the request still waits for until its first token
 */
export function isOverdue(
  { budget, arrivedAt, generated }: WaitingRequest,
  now: number,
  { expectedMs, carefulMs }: NextStep,
  { requestOverheadMs }: Policy,
): boolean {
  if (budget?.onMiss !== 'truncate' || budget.totalMs === null) return false;
  const left = arrivedAt + budget.totalMs - requestOverheadMs - now;
  return generated > 0 ? carefulMs > left : expectedMs > left || carefulMs > left + LATE_FIRST;
}
