/** The parts of a net: those that all nets share, the answer that it is for, and its outcome. */
import type { ApiContext } from '../api/context.js';
import type { AnswerForm, UpstreamCall } from './call.js';
import type { Deadline, FirstDue } from './deadline.js';
import type { LocalSink } from './local-answer.js';
import type { Upstream } from './upstream.js';
import type { NetTrigger, NoNet } from './net-policy.js';

/** How a net ended, for metrics. */
export interface NetOutcome {
  /** The name that callers use, and the upstream's. */
  readonly model: string;
  readonly upstream: string;
  /**
   * - `none`: the request had no net. `unused`: it was armed, and did not start.
   * - `answered`: its answer went out. `overtaken`: it ran, and the upstream answered.
   * - `failed`: it ran, and had no whole sentence in time. `cancelled`: its client left.
   */
  readonly result: 'none' | 'unused' | 'answered' | 'overtaken' | 'failed' | 'cancelled';
  /** Only of `none`. */
  readonly reason: NoNet | null;
  /** Null: it did not start. */
  readonly trigger: NetTrigger | null;
  /** From the arrival of the request to the start, ms. */
  readonly startedMs: number | null;
  /** From the start to the deadline, ms. */
  readonly leadMs: number | null;
  /** From the start to its end, ms. */
  readonly ranMs: number | null;
}

/** Gets the outcome of each net once. */
export interface NetObserver {
  ended(outcome: NetOutcome): void;
}

/** The parts that the nets of a server share. */
export interface NetShared {
  readonly context: ApiContext;
  readonly observer: NetObserver | null;
}

/** The answer that a net is for. It takes the chunks of the local one. */
export interface NetFor extends LocalSink {
  readonly call: UpstreamCall;
  readonly deadline: Deadline;
  readonly form: AnswerForm;
  readonly upstream: Pick<Upstream, 'name' | 'accuracy'>;
  readonly first: FirstDue;
  /** Whether the net starts beside the upstream at once. It counts as a start. */
  isEarly(): boolean;
  /** Whether the upstream has no whole sentence so far. */
  isNeeded(): boolean;
  /**
   * The text of the local answer may go out. It is called again at the end of the answer. A text that is cut without a
   * sentence is no answer, and leaves the upstream its time.
   */
  due(): void;
}
