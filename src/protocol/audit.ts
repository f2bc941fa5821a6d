/** Audits: answers compared with full depth. */
import type { LengthGroup } from './request.js';
import type { ExitLayer } from '../engine/scheduler/cost/model.js';

/**
 * Why an answer has no audit.
 * - `off`: by --audit. `full_depth`: full depth wrote every token, or none was written.
 * - `schema`: rules that an audit does not repeat.
 * - `cancelled`: the client or operator ended the answer.
 * - `queue`, `stale`: too many answers or too long a time without an idle moment. `memory`: the audit found no room.
 * - `time`: the audit took longer than its limit.
 */
export type AuditSkip = 'off' | 'full_depth' | 'schema' | 'cancelled' | 'queue' | 'stale' | 'memory' | 'time';

/** One token of an answer from an exit below full depth, under full depth's distribution at its position. */
export interface AuditedToken {
  /** Index in the answer. */
  readonly index: number;
  readonly token: number;
  /** Exit that wrote the token. */
  readonly exit: ExitLayer;
  /** Full depth's most likely token under the answer's penalties. */
  readonly best: number;
  /** Rank of the written token from 1; null below the largest logits that the select graph returns. */
  readonly rank: number | null;
  /** Log-probability of the written token and of `best`, at temperature 1 under the answer's penalties. */
  readonly logprob: number;
  readonly bestLogprob: number;
  /** Probability that full depth draws the written token by the answer's sampling rules. */
  readonly probability: number;
}

/** One exit against full depth over the positions of an answer, whichever exit wrote it. */
export interface Probe {
  readonly exit: ExitLayer;
  readonly tokens: number;
  /** Positions at which both have the same most likely token. */
  readonly agreeing: number;
  /**
   * Mean KL of full depth to the exit over a sample of the positions, in nats, under the answer's penalties. Null:
   * none.
   */
  readonly kl: number | null;
}

/** The audit of an answer that has ended. Exactly one follows the end of each answer. */
export interface AuditEvent {
  readonly id: string;
  readonly lengthGroup: LengthGroup;
  /** Null for an audited answer. */
  readonly skipped: AuditSkip | null;
  readonly tokens: readonly AuditedToken[];
  readonly probe: Probe | null;
  /**
   * Of a looped model with a gate, by exit: the mean probability over the answer's positions that this loop or an
   * earlier one stops. Absent for other models.
   */
  readonly gate?: readonly number[];
  /** Time of the audit's steps. */
  readonly ms: number;
}

/** Audits that ended since the last message. */
export interface AuditMessage {
  readonly type: 'audit';
  readonly audits: readonly AuditEvent[];
}
