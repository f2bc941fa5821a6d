/**
 * The router's plain data: what a client asks for, what the engine reports, what a plan says.
 *
 * All times are milliseconds; instants ("...At", now) are on one monotonic clock of the caller's choice.
 */
import type { ExitLayer, Work } from '../cost/model.js';
import type { Admitted, DepthRequest, LengthGroup, ServiceClass } from '../protocol/index.js';

export type { Admitted, Budget, DepthReason, DepthRequest, ExitIndex, ExitLayer } from '../protocol/index.js';
export type { LengthGroup, OnMiss, ServiceClass } from '../protocol/index.js';

/** When an answer ends early. Instants are of the engine's clock. */
export interface Landing {
  /** Before, no end pressure changes the answer. */
  readonly opensAt: number;
  /** The last token is due. */
  readonly endsAt: number;
  /** Expected time until each next token, prompts of other requests included; ms. */
  readonly tokenMs: number;
}

/** A request, with or without a slot. */
export interface RequestView extends DepthRequest {
  readonly id: string;
  readonly arrivedAt: number;
  readonly promptLength: number;
  /** Tokens emitted so far; above 0 without a slot after a preemption. */
  readonly generated: number;
  readonly firstTokenAt: number | null;
  readonly maxTokens: number;
  /** The answer runs to maxTokens whatever it says: the client asked for no end token. */
  readonly isExactLength: boolean;
  /** Its budget lands it, and its text may end at the end of a sentence. */
  readonly lands: boolean;
  /** Tokens of its present sentence so far. */
  readonly sentenceTokens: number;
  readonly lengthGroup: LengthGroup;
  /** The client in whose name it runs: its promises take no more than its share of the others' time. */
  readonly tenant: string;
  /** Exit in force, or planned at admission. */
  readonly exit: ExitLayer;
  readonly serviceClass: ServiceClass;
  /**
   * Positions that each trunk stage has processed (index = stage), then the exit blocks' (index = number of stages + index
   * of the exit). A missing entry counts as none processed. Without a slot: what a stored prefix saves.
   */
  readonly frontier: readonly number[];
  /** The same at its turn, with the prefix that another live prompt brings until then. */
  readonly expectedFrontier: readonly number[];
  /** It gets a plan and no answer. */
  readonly isDryRun?: boolean;
}

/** A request that holds a slot. */
export interface SequenceView extends RequestView {
  readonly lastTokenAt: number | null;
}

/** The engine as planning sees it. */
export interface EngineState {
  readonly now: number;
  /** Sequences that may be live at once. */
  readonly slots: number;
  readonly live: readonly SequenceView[];
  /** In order of service. */
  readonly waiting: readonly RequestView[];
  /** Tokens within which nine of ten sentences end. */
  readonly sentenceTokens: number;
  /** Positions that the KV cache holds for live sequences. */
  readonly kvPositions: number;
}

/** @see Budget.onMiss `reject` */
export interface Rejected {
  readonly kind: 'reject';
  /** Least total budget that would be guaranteed now; null: none found. */
  readonly leastFeasibleMs: number | null;
  /** Deepest exit below the floor of quality that would be guaranteed now; null or absent: none, or no floor. */
  readonly bestExit?: ExitLayer | null;
}

export type Admission = Admitted | Rejected;

/** A part of one prompt that the next step prefills. */
export interface PrefillChunk {
  readonly id: string;
  /** Counted from the stage of its exit that is furthest behind. */
  readonly positions: number;
}

/** The decisions for the next step. */
export interface StepPlan {
  /** Exits that change; other sequences keep theirs. */
  readonly exits: readonly { readonly id: string; readonly exit: ExitLayer }[];
  /** Sequences that skip this decode step. */
  readonly paused: readonly string[];
  /** Chunks of prompts, in order of service. */
  readonly chunks: readonly PrefillChunk[];
}

/** The waiting requests, as they get slots. */
export interface Service {
  /** In order of service. */
  readonly order: readonly string[];
  /** Running requests without a promise that keep their slots, oldest first; a promise may take those of all others. */
  readonly kept: number;
}

/** Requests with a place in the queue, and those that are to be decided next. */
export interface Decided {
  readonly queued: readonly RequestView[];
  readonly next: readonly RequestView[];
}

/** The engine, or its simulation: what the router's decisions for a step ask for and cause. */
export interface StepHost {
  /** The engine as it is at this point of the step. */
  state(): EngineState;
  /** Requests that arrived since the last step and are decided together. */
  arrivals(): readonly RequestView[];
  /** Queues or rejects the requests that `arrivals`, or the last decision, gave. */
  decide(admissions: readonly Admission[]): Decided;
  /** Ends requests that are cancelled, or broken. */
  endDue(): void;
  /** Gives slots and memory to waiting requests as far as they last, to promises in place of other requests. */
  start(service: Service): void;
  /** Puts exits into force, and preempts requests until the memory holds the next tokens of the others. */
  apply(exits: StepPlan['exits']): void;
  /** Selects what the step runs: catch-ups, else the chunks; then the rows that can decode. @returns its work */
  select(plan: StepPlan): Work;
  /** Ends answers at their deadlines. */
  endOverdue(ids: readonly string[]): void;
}

/** `ended`: by itself or at maxTokens; `landed`: early; `deadline`: cut there; `cancelled`: by the client. */
export type AnswerEnd = 'ended' | 'landed' | 'deadline' | 'cancelled';
