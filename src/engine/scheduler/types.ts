/**
 * The scheduler's plain data.
 *
 * All times are milliseconds; instants ("...At", now) are on one monotonic clock of the caller's choice.
 */
import type { Admitted, ArmedEvent } from '../../protocol/index.js';
import type { Sequence } from './sequence.js';

/** When an answer ends early. Instants are of the engine's clock. */
export interface LandingWindow {
  /** Before, no end pressure changes the answer. */
  readonly opensAt: number;
  /** The last token is due. */
  readonly endsAt: number;
  /** Tokens from one sentence boundary to the next, at the quantile of output-length.ts. */
  readonly sentenceTokens: number;
}

/** @see Budget.onMiss `reject` */
export interface Rejected {
  readonly kind: 'reject';
  /** Least total budget that would be guaranteed at this moment; null: none found. */
  readonly leastFeasibleMs: number | null;
  /** Of a net: it would fit, if other promises took no time. */
  readonly isFull?: boolean;
}

/** A net that sleeps. */
export interface Armed extends Omit<ArmedEvent, 'id'> {
  readonly kind: 'arm';
}

/** An admitted request, with the answer tokens that its promise covers. */
export type Planned = Admitted & { readonly guaranteedTokens: number };

export type Admission = Planned | Armed | Rejected;

/** A part of one prompt that the next step prefills. */
export interface PrefillChunk {
  readonly sequence: Sequence;
  /** Counted from the stage of its exit that is furthest behind. */
  readonly positions: number;
}

/** `ended`: by itself or at maxTokens; `landed`: early; `deadline`: cut there; `cancelled`: by the client; `error`. */
export type AnswerEnd = 'ended' | 'landed' | 'deadline' | 'cancelled' | 'error';
