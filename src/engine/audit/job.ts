/**
 * One audit: the tokens of an ended answer, and the rules under which they were written.
 *
 * Pure. Must not know: slots, graphs.
 */
import type { Dry } from '../model/manifest.js';
import { repetitionPenalties } from '../sampling/dry.js';
import { rulesWith, type TokenCounts } from '../sampling/sampler.js';
import type { AuditedToken, AuditSkip, EndReason, ExitIndex, SequenceRequest, Sampling } from '../../protocol/index.js';
import type { Sequence } from '../scheduler/sequence.js';
import type { Answer } from '../answer.js';
import type { Slot } from '../scheduler/kv/slot.js';

export interface AuditJob {
  readonly id: string;
  readonly request: SequenceRequest;
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
  /** Sum of the KL over the positions of the sample, and their number. */
  kl: number;
  compared: number;
  /** By exit below full depth, sums of the gate's cumulated probability over `gated` positions. */
  readonly gates: number[];
  gated: number;
  ms: number;
}

/** Why an ended answer is not audited; null for an answer that can be. */
export function skipOf({ sequence, text }: Answer, reason: EndReason, deepest: ExitIndex): AuditSkip | null {
  if (reason === 'cancelled' || reason === 'error') return 'cancelled';
  // Full depth behind a prompt exit is an index beyond the deepest one.
  if (sequence.path.every(({ exit }) => exit >= deepest)) return 'full_depth';
  // The masks of a grammar are not kept, and its text is not the model's choice alone.
  const grammar = sequence.request.grammar ?? null;
  if (text.hasLandedThoughts) return 'schema';
  return grammar !== null && (grammar.kind !== 'free' || grammar.thoughts?.most !== null) ? 'schema' : null;
}

export function jobOf(sequence: Sequence, endedAt: number, probe: ExitIndex | null): AuditJob {
  const { id, request, tokens, promptLength, path, stored: source } = sequence;
  const exits = path.flatMap(({ exit, tokens: count }) => new Array<ExitIndex>(count).fill(exit));
  const counts = { probed: 0, agreeing: 0, kl: 0, compared: 0, gated: 0, ms: 0 };
  const state = { isBegun: false, audited: [], gates: [], ...counts };
  return { id, request, tokens, promptLength, exits, source, endedAt, probe, ...state };
}

/** The rules by which the sampler wrote token `index` of the answer. @param dry rule in force for it, or null */
export function rulesAt({ request, tokens, promptLength }: AuditJob, index: number, dry: Dry | null): Sampling {
  const before = tokens.slice(0, promptLength + index);
  const amounts = dry === null ? new Map<number, number>() : repetitionPenalties(before, promptLength, dry);
  return rulesWith(request.sampling, amounts, index < request.minTokens ? request.stopTokens : []);
}

/** Counts of the tokens before token `index` of the answer, as the sampler had them. */
export function countsBefore(
  { tokens, promptLength }: AuditJob,
  index: number,
): TokenCounts & { answer: Map<number, number> } {
  const answer = new Map<number, number>();
  for (const token of tokens.slice(promptLength, promptLength + index)) answer.set(token, (answer.get(token) ?? 0) + 1);
  return { prompt: new Set(tokens.slice(0, promptLength)), answer };
}
