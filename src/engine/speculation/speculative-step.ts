/**
 * A step of a sequence that decodes alone: makes the draft that the plan asks for, and verifies it.
 *
 * Self-speculation of a looped model: drafts each token at the loop at which the gate stops.
 *
 * Verification reuses the states that the shallow stages compute for a draft.
 *
 * Must not know: scheduling, whether drafts pay off.
 */
import type { DraftPlan } from '../scheduler/step-plan.js';
import type { Answer } from '../answer.js';
import type { Executor } from '../execution/executor.js';
import { dryPenalties, type SampledToken, sampledToken, draftToken } from '../sampling/sample-batch.js';
import type { Gate } from '../model/gate.js';
import { type Chunk, chunksOnly } from '../execution/step-batch.js';
import type { ExitIndex } from '../../protocol/index.js';
import type { Slot } from '../scheduler/kv/units.js';

export interface Draft {
  readonly tokens: readonly number[];
  /** Whether the most likely tokens alone decide; set when the draft has run (`prepareVerification`). */
  isArgmax: boolean;
}

/** The draft of a plan, as far as the answer goes on under its rules; null where none is left. */
export function draftOf(executor: Executor, answer: Answer, plan: DraftPlan, isEnd: IsEnd): Draft | null {
  if (isEnd([])) return null;
  if (plan.source === 'exit') {
    const { gate } = executor.model;
    if (gate === null) throw new RangeError('the model has no gate that chooses exits');
    return { tokens: draftByGate(executor, answer, gate, plan.most, isEnd), isArgmax: false };
  }
  const tokens = untilEnd(untilPenalized(answer, plan.tokens), isEnd);
  return tokens.length > 0 ? { tokens, isArgmax: false } : null;
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

/** Least cumulated probability of the gate; .9 is slower (bench/results/loops.md). */
const LEAST_STOP = 0.7;

/** Whether the answer ends behind a draft. */
type IsEnd = (draft: readonly number[]) => boolean;

/**
 * Drafts at most `most` tokens, each at the first loop below the answer's own at which the gate stops. The draft ends
 * where it stops at none: the verification emits that token. Afterwards, the answer has its old tokens, and the loops
 * of its slot are ahead.
 */
export function draftByGate(
  executor: Executor,
  answer: Answer,
  gate: Gate,
  most: number,
  isEnd: IsEnd = () => false,
): number[] {
  const { slot, exit } = answer.sequence;
  const draft: number[] = [];
  while (slot !== null && draft.length < most && runByGate(executor, slot, gate, exit)) {
    const token = draftToken(executor.head, answer, draft.length);
    if (token === null) break;
    draft.push(token);
    slot.tokens.push(token);
    answer.tokens.push(token);
    if (isEnd(draft)) break;
  }
  if (slot !== null) slot.tokens.length -= draft.length;
  answer.tokens.length -= draft.length;
  return draft;
}

/** Leaves the logits behind a slot's last token in row 0 of the head. @returns whether the gate stops below an exit */
function runByGate(executor: Executor, slot: Slot, gate: Gate, below: ExitIndex): boolean {
  const end = slot.tokens.length;
  let goesOn = 1;
  for (let exit = 0; exit < below; exit++) {
    const read: Chunk['read'] = (states) => {
      const state = states.read(end - 1);
      if (state !== null) goesOn *= 1 - gate.stop(state);
      if (1 - goesOn >= LEAST_STOP) states.toHead(end - 1, 1);
    };
    executor.run(chunksOnly({ slot, exit: executor.exit(exit), end, read }));
    if (1 - goesOn >= LEAST_STOP) return true;
  }
  return false;
}
