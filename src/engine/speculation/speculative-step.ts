/**
 * A step of a sequence that decodes alone: makes the draft that the plan asks for, and verifies it.
 *
 * Must not know: scheduling, whether drafts pay off.
 */
import type { DraftPlan } from '../scheduler/step-plan.js';
import type { Answer } from '../answer.js';
import type { Executor } from '../execution/executor.js';
import { dryPenalties, type SampledToken, sampledToken } from '../sampling/sample-batch.js';
import { draftAt, draftByGate, type IsEnd } from './exit-draft.js';

export interface Draft {
  readonly tokens: readonly number[];
  /** Whether the most likely tokens alone decide; set when the draft has run (`prepareVerification`). */
  isArgmax: boolean;
}

/** The draft of a plan, as far as the answer goes on under its rules; null where none is left. */
export function draftOf(executor: Executor, answer: Answer, plan: DraftPlan, isEnd: IsEnd): Draft | null {
  if (isEnd([])) return null;
  if (plan.source !== 'exit') {
    const tokens = untilEnd(untilPenalized(answer, plan.tokens), isEnd);
    return tokens.length > 0 ? { tokens, isArgmax: false } : null;
  }
  const { exit, most } = plan;
  const { gate } = executor.model;
  if (exit === null && gate === null) throw new RangeError('the model has no gate that chooses exits');
  const tokens =
    exit === null && gate !== null
      ? draftByGate(executor, answer, gate, most, isEnd)
      : draftAt(executor, answer, exit ?? 0, most, isEnd);
  return { tokens, isArgmax: false };
}

/**
 * Samples tokens while they agree with the draft, and the first one that differs.
 * @param take gives a token to the answer; false where the answer ends with it
 * @returns number of accepted draft tokens
 */
export function verify(
  { head }: Executor,
  answer: Answer,
  draft: Draft,
  take: (choice: SampledToken) => boolean,
): number {
  let accepted = 0;
  for (let goesOn = true; goesOn;) {
    const choice = sampledToken(head, accepted, answer, draft.isArgmax, accepted);
    const isDraft = choice.token === draft.tokens[accepted];
    if (isDraft) accepted++;
    goesOn = take(choice) && isDraft;
  }
  return accepted;
}

/** Cuts a draft at the first token that the answer's DRY rule penalizes. */
function untilPenalized(answer: Answer, draft: readonly number[]): readonly number[] {
  if (answer.dry === null) return draft;
  const end = draft.findIndex((token, i) => dryPenalties(answer, draft.slice(0, i)).has(token));
  return end < 0 ? draft : draft.slice(0, end);
}

/** Cuts a draft behind the first token at which the answer ends. */
function untilEnd(draft: readonly number[], isEnd: IsEnd): readonly number[] {
  const last = draft.findIndex((_, i) => isEnd(draft.slice(0, i + 1)));
  return last < 0 ? draft : draft.slice(0, last + 1);
}
