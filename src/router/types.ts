/**
 * The router's plain data: what a caller asks for, what the engine tells, what a plan is.
 *
 * Knows: times, counts, exits. Must not know: the engine's objects, messages, clocks, ONNX Runtime.
 * All times are milliseconds; instants ("...At", now) are on one monotonic clock of the caller's choice.
 */

import type { Outlook } from './estimate.js';
import type { Learned } from './learned.js';

/** What is done when even the shallowest plan can't make the budget (design: budget contract). */
export type OnMiss = 'continue' | 'truncate' | 'reject';

/** A caller's latency budget. Null fields were not stated. */
export interface Budget {
  /** From arrival of the request to the last byte. */
  readonly totalMs: number | null;
  readonly ttftMs: number | null;
  /** Mean per token after the first. */
  readonly tpotMs: number | null;
  readonly onMiss: OnMiss;
}

/** The depths a request may use: a pinned depth has minExit = maxExit. Both are exit layers of the model. */
export interface DepthRequest {
  readonly minExit: number;
  readonly maxExit: number;
  readonly budget: Budget | null;
}

/** One exit of the model, shallowest first in DepthShape. */
export interface ExitShape {
  /** The number a caller names. */
  readonly layer: number;
  /** Index of the last trunk stage it needs. */
  readonly stage: number;
  /** Cost unit of its exit block, or null where it has none. */
  readonly block: string | null;
  /** Measured agreement with full depth, 0..1. Only the order and the differences matter. */
  readonly quality: number;
}

/** What the router must know of the model: which units run for which exit. */
export interface DepthShape {
  /** Cost units of the trunk stages, in order. */
  readonly stages: readonly string[];
  readonly exits: readonly ExitShape[];
}

/** A request that holds no slot: not started, or preempted. */
export interface WaitingRequest extends DepthRequest {
  readonly id: string;
  readonly arrivedAt: number;
  readonly promptLength: number;
  /** Tokens emitted before it was preempted; 0 for a new one. */
  readonly generated: number;
  /** When the first of them was emitted. Absent: none was. */
  readonly firstTokenAt?: number | null;
  readonly maxTokens: number;
  /** Exit layer that admission planned. */
  readonly exit: number;
  /** What a stored prefix spares it, as in SequenceState. Absent: nothing. */
  readonly frontier?: readonly number[];
  /**
   * The same by its turn, with what another prompt that begins alike brings until then: what plans count on. Who is
   * served first goes by `frontier`: the other one has to. Absent: nothing is brought.
   */
  readonly expected?: readonly number[];
  /** Whether plans hold time for its budget before others get a chance (Admission's `bound`). Absent: yes. */
  readonly promised?: boolean;
  /** Whether its caller was told that the budget is kept (Admission's `feasible`). Absent: yes. */
  readonly told?: boolean;
}

/** A request that holds a slot. */
export interface SequenceState extends WaitingRequest {
  /**
   * Positions that each trunk stage has processed (index = stage), then, for exits with a block, those of the block
   * (index = number of stages + index of the exit). A missing entry of a block counts as none processed.
   */
  readonly frontier: readonly number[];
  readonly firstTokenAt: number | null;
  readonly lastTokenAt: number | null;
  /** Tokens emitted since its exit last changed: what hysteresis counts. */
  readonly tokensAtExit: number;
}

/** The engine as planning sees it. */
export interface RouterState {
  readonly now: number;
  /** Sequences that may be live at once. */
  readonly slots: number;
  /** Free KV positions. */
  readonly kvRoom: number;
  readonly live: readonly SequenceState[];
  /** In order of service: as order() gave them, new ones at the end until it is asked again. */
  readonly waiting: readonly WaitingRequest[];
  /** From the requests before: how long answers get, what keeps arriving, what promises and predictions are worth. */
  readonly learned: Learned;
}

/** The operator's policy, all defaults in policy.ts. */
export interface Policy {
  /** Quantile of the learnt output lengths that plans assume, 0..1; 1 plans for max_tokens. */
  readonly lengthQuantile: number;
  /** Predictions are held to fit with this much to spare (0.05 is 5%), for what no model foresees. */
  readonly margin: number;
  /** A sequence that rested goes on only when its step fits with this much more to spare. */
  readonly hysteresis: number;
  /** A deeper exit is taken up in mid-answer only after that many tokens at the present one. */
  readonly dwellTokens: number;
  /** Share of the machine that requests without a (still feasible) budget get under any load, above 0, to 1. */
  readonly noBudgetShare: number;
  /** Whether requests without a budget get shallower under load, as if their budget were 1/noBudgetShare of full depth alone. */
  readonly shedDepth: boolean;
  /** Prefill chunk sizes that the engine can run, rising. */
  readonly chunks: readonly number[];
  /** No chunk stalls decoding sequences for longer than this where a smaller one exists. */
  readonly maxStallMs: number;
  /** What a request spends outside the engine's steps: HTTP, tokenizing, detokenizing. */
  readonly requestOverheadMs: number;
  /** Plans leave time for this many times the present demand, at the depth that they plan; 0 spends all there is. */
  readonly foresight: number;
  /** Share of its budget after which an arrival is expected to be due, 0..1: 1 trusts that each waits for its deadline. */
  readonly urgency: number;
}

export interface Prediction {
  readonly ttftMs: number;
  /** Mean per token after the first. */
  readonly tpotMs: number;
  /** From arrival to the last token, at the planned length. */
  readonly totalMs: number;
}

export type Admission =
  | {
      readonly kind: 'admit';
      /** Exit layer at start. */
      readonly exit: number;
      readonly prediction: Prediction;
      /** Whether its budget is promised: the shallowest allowed plan makes it with the learnt margin to spare. */
      readonly feasible: boolean;
      /** What the prediction goes by, kept to learn from when the answer has ended. */
      readonly outlook: { readonly total: Outlook; readonly ttft: Outlook };
      /** Whether plans hold time for it: the shallowest allowed plan makes it, be it barely. */
      readonly bound: boolean;
    }
  /** Least total budget that would be promised now, from arrival. */
  | { readonly kind: 'refuse'; readonly leastFeasibleMs: number | null };

/** What changes before the next step; sequences that are not named go on as they are. */
export interface Replan {
  readonly exits: readonly { readonly id: string; readonly exit: number }[];
  /** Sequences that sit this step out, so that those with a budget keep it (never longer than noBudgetShare allows). */
  readonly paused: readonly string[];
}
