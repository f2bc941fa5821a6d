/**
 * One audit: the tokens of an ended answer, and the rules under which they were written.
 *
 * Pure. Must not know: slots, graphs.
 */
import { repetitionPenalties } from '../sampling/dry.js';
import type { AuditedToken, AuditSkip, EndReason, ExitIndex, GenerateMessage } from '../protocol.js';
import type { Sequence } from '../sequence.js';
import type { Slot } from '../slots/slot.js';

/** Most biased tokens of an audited answer. */
const MOST_BIASES = 64;

export interface AuditJob {
  readonly id: string;
  readonly request: GenerateMessage;
  /** Prompt and answer. */
  readonly tokens: number[];
  readonly promptLength: number;
  /** Exit of each token of the answer. */
  readonly exits: readonly ExitIndex[];
  /** The slot of the sequence: it holds the prompt's states while its `tokens` are those of the job. */
  readonly source: Slot | null;
  readonly endedAt: number;
  /** Exit below full depth that is measured on the same text; null in a model without one. */
  readonly probe: ExitIndex | null;
  /** Whether the audit has taken its slot, which another one may have evicted since. */
  isBegun: boolean;
  readonly audited: AuditedToken[];
  /** Positions that the probed exit was measured on, and those at which it agrees. */
  probed: number;
  agreeing: number;
  ms: number;
}

/** Why an ended answer is not audited; null for an answer that can be. */
export function skipOf(sequence: Sequence, reason: EndReason, deepest: ExitIndex): AuditSkip | null {
  if (reason === 'cancelled' || reason === 'error') return 'cancelled';
  if (sequence.path.every(({ exit }) => exit === deepest)) return 'full_depth';
  // The masks of a grammar are not kept, and its text is not the model's choice alone.
  const grammar = sequence.request.grammar ?? null;
  if (grammar !== null && (grammar.kind !== 'free' || grammar.thoughts?.most !== null)) return 'schema';
  const { repetitionPenalty, logitBias } = sequence.request.sampling;
  // The head lowers single logits by amounts: it multiplies none, and many would delay requests.
  return repetitionPenalty === 1 && logitBias.length <= MOST_BIASES ? null : 'penalties';
}

export function jobOf(sequence: Sequence, source: Slot | null, endedAt: number, probe: ExitIndex | null): AuditJob {
  const { id, request, tokens, promptLength, path } = sequence;
  const exits = path.flatMap(({ exit, tokens: count }) => new Array<ExitIndex>(count).fill(exit));
  const counts = { isBegun: false, audited: [], probed: 0, agreeing: 0, ms: 0 };
  return { id, request, tokens, promptLength, exits, source, endedAt, probe, ...counts };
}

/**
 * Amounts that the answer's rules take off single logits at the position before token `index` of the answer.
 * @param dry rule in force for that token, or null
 */
export function penaltiesAt(
  { request, tokens, promptLength }: AuditJob,
  index: number,
  dry: Sequence['dry'],
): ReadonlyMap<number, number> {
  const { sampling, minTokens, stopTokens } = request;
  const before = tokens.slice(0, promptLength + index);
  const amounts = new Map(dry === null ? [] : repetitionPenalties(before, promptLength, dry));
  const add = (token: number, amount: number): void => {
    amounts.set(token, (amounts.get(token) ?? 0) + amount);
  };
  const { presencePenalty, frequencyPenalty } = sampling;
  if (presencePenalty !== 0 || frequencyPenalty !== 0) {
    const answer = before.slice(promptLength);
    for (const token of new Set(answer)) add(token, presencePenalty);
    for (const token of answer) add(token, frequencyPenalty);
  }
  for (const [token, bias] of sampling.logitBias) add(token, -bias);
  if (index < minTokens) for (const token of stopTokens) add(token, Infinity);
  return amounts;
}
