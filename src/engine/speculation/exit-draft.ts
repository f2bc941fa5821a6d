/**
 * Self-speculation: drafts tokens at a shallower exit of the same model while that exit is confident, or each token at
 * the loop at which a looped model's gate stops.
 *
 * Must not know: whether drafts pay off.
 *
 * Verification reuses the states that the shallow stages compute for a draft.
 */
import { draftToken } from '../sampling/sample-batch.js';
import type { Gate } from '../model/gate.js';
import type { Executor } from '../execution/executor.js';
import { type Chunk, chunksOnly } from '../execution/step-batch.js';
import type { ExitIndex } from '../../protocol/index.js';
import { draftExits } from '../scheduler/drafts/drafts.js';
import type { Answer } from '../answer.js';
import type { Slot } from '../scheduler/kv/slot.js';

/** Least probability of a drafted token (the paper's 13B model: 0.7 to 0.95). */
const LEAST_PROBABILITY = 0.6;
/** Least cumulated probability of the gate; .9 is slower (bench/results/loops.md). */
const LEAST_STOP = 0.7;

/** Whether the answer ends behind a draft. */
export type IsEnd = (draft: readonly number[]) => boolean;

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
