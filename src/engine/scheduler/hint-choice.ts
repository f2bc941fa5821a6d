/**
 * The hints of requests that arrive: a request whose budget holds less than its answer at full depth asks for a shorter
 * one.
 *
 * The scheduler chooses among prompts that the gateway has tokenized, since only the forecast of the batch knows wait
 * and pace under load. A choice of the gateway would go by the steps of other requests.
 *
 * Pure functions. Must not know: texts, slots.
 */
import { at } from './cost/model.js';
import { forecast } from './exit-choice.js';
import { paceOf } from './first-sentence.js';
import type { PlannedRequest } from './planned-request.js';
import type { Sequence } from './sequence.js';
import type { Snapshot } from './snapshot.js';

/**
 * @param state with the requests among the waiting, at their deepest exits
 * @param asking requests with hints
 * @returns the index of the hint by request, for those that need one
 */
export function chooseHints(state: Snapshot, asking: readonly Sequence[]): ReadonlyMap<Sequence, number> {
  const outcomes = forecast(state, new Map());
  const found = new Map<Sequence, number>();
  for (const [i, self] of state.requests.entries()) {
    if (!asking.includes(self.sequence)) continue;
    const outcome = at(outcomes, i);
    // A prompt that the forecast leaves out has no turn within its budget.
    const fitting = outcome.firstTokenAt === Infinity ? 0 : paceOf(state, self, self.maxExit, outcome).steps;
    const hint = hintFor(self, self.stepsLeft(self.maxExit, state.policy.wholeShare), fitting);
    if (hint !== null) found.set(self.sequence, hint);
  }
  return found;
}

/**
 * The hint with the longest answers that fit, else the one with the shortest answers; null where the expected answer
 * fits, or no hint has a shorter one.
 * @param expected tokens of the answer. @param fitting tokens until the deadline
 */
function hintFor(self: PlannedRequest, expected: number, fitting: number): number | null {
  if (fitting >= expected) return null;
  const hints = self.sequence.request.hints ?? [];
  let best: number | null = null;
  for (const [i, { tokens }] of hints.entries()) {
    if (tokens >= expected) continue;
    const least = best === null ? null : at(hints, best).tokens;
    if (least === null || (tokens <= fitting ? tokens > least || least > fitting : tokens < least)) best = i;
  }
  return best;
}
