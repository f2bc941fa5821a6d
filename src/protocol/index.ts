/**
 * The only contract between gateway and engine process: plain data that survives JSON.
 * So no message holds a Map, a typed array or a number that is not finite.
 *
 * This file has the messages of sequences and steps; its neighbours have requests, grammars and the start.
 * Must not know: HTTP, text, ONNX Runtime.
 * All times are milliseconds. Instants ("...At") are on the machine-wide monotonic clock (src/util/clock.ts), which
 * both processes share.
 */
import type { ExitLayer } from '../engine/scheduler/cost/model.js';
import type { Admitted } from './admitted.js';
import type { EngineRequest } from './request.js';
import type { FatalMessage, LoadingMessage, ReadyMessage } from './start.js';

export type { ExitIndex, ExitLayer } from '../engine/scheduler/cost/model.js';
export type * from './admitted.js';
export type * from './grammar.js';
export type * from './request.js';
export type * from './start.js';

/** Source of a draft: the client's prediction, the text so far, or a shallower exit. */
export type DraftSource = 'prediction' | 'lookup' | 'exit';

export interface DraftCount {
  readonly source: DraftSource;
  readonly drafted: number;
  /** Drafted tokens that the answer's own exit confirmed. */
  readonly accepted: number;
}

/** Reason of an early end: client or operator cancelled, the text holds a stop string, or the deadline is over. */
export type CancelReason = Extract<EndReason, 'cancelled' | 'stop' | 'deadline'>;

export type ToEngine =
  /** Starts all sequences of one answer. */
  | { readonly type: 'generate'; readonly request: EngineRequest }
  /** Ends sequences early; the engine answers with `ended` and this reason. The engine ignores unknown ids. */
  | { readonly type: 'cancel'; readonly ids: readonly string[]; readonly reason: CancelReason }
  /** Wakes sequences of nets. The engine ignores other ids. */
  | { readonly type: 'wake'; readonly ids: readonly string[] }
  /** Asks for a `pong`, which shows that the engine still reads messages. */
  | { readonly type: 'ping' }
  /** The engine exits with code 0, without finishing anything. */
  | { readonly type: 'stop' };

export interface TokenLogprobs {
  /** Log-probability of the token under the model's own distribution (temperature 1, before penalties). */
  readonly logprob: number;
  /** Most likely tokens as [id, log-probability], descending. */
  readonly top: readonly (readonly [number, number])[];
}

/**
 * Whether an answer may end early within its budget, or why not.
 * - `off`: by its budget. `exact_length`: the request names no end token. `grammar`: its text can't end anywhere.
 */
export type EarlyEnd = 'possible' | 'off' | 'exact_length' | 'grammar';

/** How an answer ended early within its budget. */
export interface Landed {
  /** Tokens of the answer before its end. */
  readonly at: number;
  /** Amount on the logits of the end tokens. */
  readonly pressure: number;
  /** Probability of an end at this place without pressure, at temperature 1, 0..1. */
  readonly probability: number;
  /** The model was about to end there. */
  readonly isOwn?: boolean;
}

/** The scheduler's decision for an admitted request. */
export interface PlannedEvent extends Omit<Admitted, 'kind'> {
  readonly id: string;
  readonly landing: EarlyEnd;
  /** The plan of a dry run, which no work follows. */
  readonly isDryRun?: boolean;
}

/** The sequence of a net, which sleeps until its latest start or its wake. Its plan comes when it wakes. */
export interface ArmedEvent {
  readonly id: string;
  /** An instant. It moves forward as other promises come. */
  readonly latestStart: number;
}

/** A rejected request. */
export interface RejectedEvent {
  readonly id: string;
  /**
   * - `queue_full`: of a net, also that other promises take its time.
   * - `unknown_token`: the embedding has no row for an id.
   * - `grammar`: the grammar is invalid. `grammars_lost`: the grammar thread failed, and a retry may succeed.
   */
  readonly reason: 'queue_full' | 'budget_infeasible' | 'too_long' | 'unknown_token' | 'grammar' | 'grammars_lost';
  /** Least total budget that would be guaranteed at this moment; null where none applies. */
  readonly leastFeasibleMs: number | null;
  /** For `grammar`, the fault, for the client. For `grammars_lost`, the cause, for the log. */
  readonly detail?: string;
  /** Index of the function with the fault, if the request has several. */
  readonly part?: number | null;
}

export interface PromptEvent {
  readonly id: string;
  /**
   * The next prompt tokens in order, over one or several events. The first token has no prediction: its entry is null.
   */
  readonly logprobs: readonly (TokenLogprobs | null)[];
}

export interface TokenEvent {
  readonly id: string;
  readonly token: number;
  /** Exit that emitted the token. */
  readonly exit: ExitLayer;
  readonly logprobs: TokenLogprobs | null;
}

export type EndReason = 'stop' | 'length' | 'deadline' | 'cancelled' | 'error';

export interface EndedEvent {
  readonly id: string;
  readonly reason: EndReason;
  /** Message for the log with reason `error`, else null. */
  readonly error: string | null;
  /**
   * For a failed grammar: true if this answer did not cause the failure, and the same request may succeed. False if the
   * answer exceeds what the server can compute under its grammar; `error` is then meant for the client.
   */
  readonly isLost?: boolean;
  readonly promptTokens: number;
  /** Prompt tokens that prefix reuse saved. */
  readonly cachedTokens: number;
  readonly startedAt: number | null;
  readonly firstTokenAt: number | null;
  readonly endedAt: number;
  readonly preemptions: number;
  /** The sampled end token, which is not part of the answer; only for requests with log-probabilities. */
  readonly endToken?: { readonly token: number; readonly logprobs: TokenLogprobs };
  /** Only for reason `stop`, where end pressure chose the end token. */
  readonly landed?: Landed;
  /** Draft counts by source; absent without drafts. */
  readonly drafts?: readonly DraftCount[];
  /** The end of a dry run. */
  readonly isDryRun?: boolean;
}

export interface LoadSnapshot {
  readonly running: number;
  readonly waiting: number;
  /** Share of the KV budget that live sequences use. */
  readonly kvUsed: number;
  /** Share of the KV budget that reusable prefixes use. */
  readonly kvCached: number;
  /** Predicted wait of a request that would arrive now, at the shallowest exit; up to a second old. */
  readonly waitMs: number;
}

/** One message per engine step. */
export interface StepMessage {
  readonly type: 'step';
  readonly at: number;
  readonly planned: readonly PlannedEvent[];
  /** Absent: none. */
  readonly armed?: readonly ArmedEvent[];
  readonly rejected: readonly RejectedEvent[];
  readonly prompts: readonly PromptEvent[];
  readonly tokens: readonly TokenEvent[];
  readonly ended: readonly EndedEvent[];
  readonly load: LoadSnapshot;
  /** Work of the step, for metrics; null for a step with bookkeeping only. */
  readonly work: StepWork | null;
}

/**
 * Parts of the engine's cycle:
 * - `planning`: admission, exits, slots, and what the step runs. `memory`: copies between slots.
 * - `prefill`: chunks of prompts and catch-ups. `decode`: embedding, stages and exit blocks of the rows.
 * - `head`: logits, and the choice of the values that sampling reads. A draft's own runs are part of `decode`.
 * - `sampling`: tokens and ends of the step before. `messages`: its message, and the arrival of requests since.
 */
export type StepPart = 'planning' | 'memory' | 'prefill' | 'decode' | 'head' | 'sampling' | 'messages';

/** Milliseconds of each part. */
export type PartMs = Readonly<Record<StepPart, number>>;

export interface StepWork {
  /** Duration of the step. */
  readonly ms: number;
  /** Duration with the time since the previous step; the cost model learns and predicts this figure. */
  readonly cycleMs: number;
  /** The parts of `cycleMs`. */
  readonly partMs: PartMs;
  /** Prediction of `cycleMs` by the cost model, made before it learnt from this step. */
  readonly predictedMs: number;
  readonly prefillTokens: number;
  /** Positions that deeper stages caught up over. */
  readonly catchUpTokens: number;
  /** The verified draft; absent without one. */
  readonly draft?: DraftCount;
  /** The step's milliseconds, attributed to the exits of its sequences; by ExitIndex. */
  readonly exitMs: readonly number[];
  /** How many times slower the machine is now than at calibration, as the cost model learnt. */
  readonly slowdown: number;
}

export type FromEngine =
  | LoadingMessage
  | ReadyMessage
  | StepMessage
  | FatalMessage
  /** Reply to a ping, sent between two steps. */
  | { readonly type: 'pong' };
