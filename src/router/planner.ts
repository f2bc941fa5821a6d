/**
 * The seam between router and engine: everything that a scheduler calls, in the order in which a step calls it.
 *
 *   arrivals   admitAll(requests, state, ...)      -> for each exit at start and prediction, or refusal
 *              observeRequest(learned, request)    -> what keeps arriving: for those that were admitted
 *   each step  order(waiting, now, ...)            -> who gets the free slots
 *              replan(live, state, ...)            -> changes of exit, who pauses, and the step's plan
 *              chooseChunk(plan, paused, ...)      -> which prompt goes on, by how many positions
 *              isOverdue(sequence, now, step, ...) -> whether onMiss `truncate` ends it before this step
 *              correct(model, work, actualMs)      -> the model that the next step plans with
 *   idle       rest(model, idleMs)                 -> the model after a while without a step
 *   end        observeEnd(learned, request, ...)   -> lengths, how careful promises are, what predictions are worth
 *
 * Pure functions over plain data (types.ts): no clock, no I/O, no randomness. The simulator calls the same ones.
 */
import { type CorrectedPart, learn, rested } from './correct.js';
import { type CostModel, type Work, cascadeMs, prefillMs, unitMs } from './model.js';

export { admitAll } from './admit.js';
export { FORESEEN } from './batch.js';
export { type Chunk, chooseChunk } from './chunk.js';
export { isWithin } from './deadlines.js';
export { type AnswerEnd, type Learned, nothingLearned, observeEnd, observeRequest } from './learned.js';
export { noLengths, observeLength, plannedLength } from './lengths.js';
export {
  type CostModel,
  type DecodeWork,
  type PrefillWork,
  type Work,
  costModel,
  depthShape,
  predictMs,
} from './model.js';
export { noDemand, observeArrival } from './demand.js';
export { advanceWork, frontierAt } from './jobs.js';
export { order } from './order.js';
export { isOverdue } from './overdue.js';
export { chunkSizes, defaultPolicy } from './policy.js';
export { type DepthPlan, planAsIs } from './plan.js';
export { type Planned, replan } from './replan.js';
export type * from './types.js';

/**
 * The model after a finished step: predictions follow what steps really took (correct.ts).
 * @param waited whether the step kept anybody else from going on
 */
export function correct(model: CostModel, work: Work, actualMs: number, waited = false): CostModel {
  const parts: CorrectedPart[] = work.prefill.map((prefill) => ({
    kind: 'prefill',
    size: Math.min(prefill.positions, prefill.chunk),
    tableMs: prefillMs(model, prefill),
  }));
  if (work.decode !== null) {
    const { rows, context } = work.decode;
    const tableMs = cascadeMs(model, rows, (unit, count) => unitMs(model, unit, count, context));
    parts.push({ kind: 'decode', size: rows.reduce((sum, count) => sum + count, 0), tableMs });
  }
  return { ...model, correction: learn(model.correction, parts, actualMs, waited) };
}

/** The model after so many ms in which nothing ran (correct.ts). */
export function rest(model: CostModel, idleMs: number): CostModel {
  return { ...model, correction: rested(model.correction, idleMs) };
}
