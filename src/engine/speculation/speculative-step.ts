/**
 * A step of a sequence that decodes alone: makes the draft that the plan asks for, and verifies it.
 *
 * Self-speculation: drafts tokens at a shallower exit of the same model while that exit is confident, or each token at
 * the loop at which a looped model's gate stops.
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
import { draftExits } from '../scheduler/drafts/drafts.js';
import type { Slot } from '../scheduler/kv/units.js';

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

/** Least probability of a drafted token (the paper's 13B model: 0.7 to 0.95). */
const LEAST_PROBABILITY = 0.6;
/** Least cumulated probability of the gate; .9 is slower (bench/results/loops.md). */
const LEAST_STOP = 0.7;

/** Whether the answer ends behind a draft. */
type IsEnd = (draft: readonly number[]) => boolean;

/**
 * Drafts at most `most` tokens at an exit. Afterwards, the answer has its old tokens, and the stages of its slot are
 * ahead.
 */
export function draftAt(
  executor: Executor,
  answer: Answer,
  exit: ExitIndex,
  most: number,
  isEnd: IsEnd = () => false,
): number[] {
  const { slot } = answer.sequence;
  const units = executor.exit(exit);
  if (slot === null) return [];
  const rows = [{ slot, exit: units }];
  const run = (): boolean => {
    const end = slot.tokens.length - 1;
    const chunks: Chunk[] = slot.least(units.needed) < end ? [{ slot, exit: units, end }] : [];
    executor.run({ chunks, rows, draft: null });
    return true;
  };
  return drafted(executor, answer, slot, { run, most, least: LEAST_PROBABILITY, isEnd });
}

/**
 * Drafts as `draftAt`, each token at the first loop below the answer's own at which the gate stops. The draft ends
 * where it stops at none: the verification emits that token.
 */
export function draftByGate(
  executor: Executor,
  answer: Answer,
  gate: Gate,
  most: number,
  isEnd: IsEnd = () => false,
): number[] {
  const { sequence } = answer;
  const { slot } = sequence;
  if (slot === null) return [];
  const exits = draftExits(sequence, executor.units.exits, executor.model.limits.maxChunk);
  const run = (): boolean => runByGate(executor, slot, gate, exits);
  return drafted(executor, answer, slot, { run, most, least: 0, isEnd });
}

/** Leaves the logits behind a slot's last token in row 0 of the head. @returns whether the gate stops at an exit */
function runByGate(executor: Executor, slot: Slot, gate: Gate, exits: readonly ExitIndex[]): boolean {
  const end = slot.tokens.length;
  let goesOn = 1;
  const stops = (): boolean => 1 - goesOn >= LEAST_STOP;
  return exits.some((exit) => {
    const read: Chunk['read'] = (states) => {
      const state = states.read(end - 1);
      if (state !== null) goesOn *= 1 - gate.stop(state);
      if (stops()) states.toHead(end - 1, 1);
    };
    executor.run(chunksOnly({ slot, exit: executor.exit(exit), end, read }));
    return stops();
  });
}

interface DraftRuns {
  /** Leaves the logits behind the last token in row 0 of the head. @returns false where the draft ends */
  readonly run: () => boolean;
  readonly most: number;
  /** Least probability of a token. */
  readonly least: number;
  readonly isEnd: IsEnd;
}

/** The slot and the answer have the draft's tokens until it is whole. */
function drafted(executor: Executor, answer: Answer, slot: Slot, { run, most, least, isEnd }: DraftRuns): number[] {
  const draft: number[] = [];
  while (draft.length < most && run()) {
    const token = draftToken(executor.head, answer, draft.length, least);
    if (token === null) break;
    draft.push(token);
    slot.tokens.push(token);
    answer.tokens.push(token);
    if (isEnd(draft)) break;
  }
  slot.tokens.length -= draft.length;
  answer.tokens.length -= draft.length;
  return draft;
}
