/**
 * The only contract between gateway and engine process: plain data that survives structured clone.
 *
 * Knows: what is said. Must not know: who says it, HTTP, text, ONNX Runtime.
 * All times are milliseconds; instants ("...At") are on the machine-wide monotonic clock (src/util/clock.ts), which
 * both processes share.
 */
import type { Architecture, Dry, KernelName } from '../model/manifest.js';
import type { CostTable } from '../cost/table.js';
import type { DepthRequest, ServiceClass } from '../router/index.js';

export type { Budget, DepthRequest, OnMiss, ServiceClass } from '../router/index.js';

export interface Sampling {
  /** 0 is greedy. */
  readonly temperature: number;
  readonly topP: number;
  /** 0 is off. */
  readonly topK: number;
  readonly minP: number;
  readonly seed: number | null;
  readonly presencePenalty: number;
  readonly frequencyPenalty: number;
  /** 1 is off. */
  readonly repetitionPenalty: number;
  /** Absent: as the exit of each token has it. */
  readonly dry?: Dry;
  /** [token id, bias] pairs. */
  readonly logitBias: readonly (readonly [number, number])[];
}

/** Requests of one group are expected to have answers of similar lengths. */
export interface LengthGroup {
  /** What is asked for: `schema` and `tools` where a grammar holds, else the endpoint. */
  readonly kind: 'chat' | 'completion' | 'schema' | 'tools';
  /** Name of the API key; null without keys, or for a key without a name. */
  readonly key: string | null;
}

/** One answer to one prompt. A request with n choices or several prompts sends several of these. */
export interface GenerateMessage {
  readonly type: 'generate';
  readonly id: string;
  /** When the HTTP request arrived. */
  readonly arrivedAt: number;
  /** At least one token id. */
  readonly prompt: readonly number[];
  /** 0 is allowed with promptLogprobs only: nothing is generated. */
  readonly maxTokens: number;
  /** End tokens are not sampled before that many tokens. */
  readonly minTokens: number;
  /** Ids that end the answer (empty with ignore_eos). The end token itself is not emitted. */
  readonly stopTokens: readonly number[];
  readonly sampling: Sampling;
  /** Null: none; 0..20: the chosen token's log-probability and that many alternatives. */
  readonly logprobs: number | null;
  /** The same for the prompt's own tokens (echo). */
  readonly promptLogprobs: number | null;
  readonly depth: DepthRequest;
  readonly lengthGroup: LengthGroup;
  /** What the answer must keep to. Absent or null: any text. */
  readonly grammar?: Grammar | null;
  /** Tokens that the answer is expected to hold; drafts are taken from them. */
  readonly prediction?: readonly number[] | null;
  /** Whether it may be drafted; absent or null: as the engine's options say. */
  readonly speculate?: boolean | null;
}

/** Where a draft comes from: the caller's prediction, the text so far, or a shallower exit. */
export type DraftSource = 'prediction' | 'lookup' | 'exit';

export interface DraftCount {
  readonly source: DraftSource;
  /** Tokens drafted, and those of them that the answer's own exit confirmed. */
  readonly drafted: number;
  readonly accepted: number;
}

/** JSON by a schema, which is text. */
export interface JsonGrammar {
  readonly kind: 'json';
  readonly schema: string;
}

/** Calls of functions, in the form of text/tool-form.ts. */
export interface CallsGrammar {
  readonly kind: 'calls';
  /** At least one; the schema of its arguments is text. */
  readonly functions: readonly { readonly name: string; readonly schema: string }[];
  /** Calls in one answer. */
  readonly most: number;
  /** The answer may be any text instead, unless it begins like a call. */
  readonly isOptional: boolean;
}

export type Grammar = JsonGrammar | CallsGrammar;

/** Why a sequence is ended early: nobody waits for it, its text holds a stop string, or it was cut at its deadline. */
export type CancelReason = Extract<EndReason, 'cancelled' | 'stop' | 'deadline'>;

/** Ends a sequence early; the engine answers with `ended` and this reason. Unknown ids are ignored. */
export interface CancelMessage {
  readonly type: 'cancel';
  readonly id: string;
  readonly reason: CancelReason;
}

/** The engine finishes nothing more and exits 0. */
export interface StopMessage {
  readonly type: 'stop';
}

/** Asks for a `pong`: whether the engine still takes messages. */
export interface PingMessage {
  readonly type: 'ping';
}

export type ToEngine = GenerateMessage | CancelMessage | PingMessage | StopMessage;

export interface TokenLogprobs {
  /** Log-probability of the token under the model's own distribution (temperature 1, before penalties). */
  readonly logprob: number;
  /** Most likely tokens, [id, log-probability], falling. */
  readonly top: readonly (readonly [number, number])[];
}

/** What the router decided when it admitted a request. */
export interface PlannedEvent {
  readonly id: string;
  /** Exit layer at start. */
  readonly exit: number;
  readonly predictedTtftMs: number;
  readonly predictedTpotMs: number;
  readonly predictedMs: number;
  /** Interval of the total time that holds 80% of the outcomes. */
  readonly predictedP10Ms: number;
  readonly predictedP90Ms: number;
  readonly serviceClass: ServiceClass;
  /** Median length of the answer, by which the plan goes. */
  readonly expectedTokens: number;
  /** Length that 90% of such answers do not exceed. */
  readonly expectedTokensP90: number;
  /** Probability that the total budget is met as planned; null without a total budget. */
  readonly probability: number | null;
}

/** A request that is not admitted. */
export interface RefusedEvent {
  readonly id: string;
  /**
   * `unknown_token`: an id that the model has no row for; `grammar`: it can't be kept to; `grammars_lost`: what would
   * have kept to it is gone for now.
   */
  readonly reason: 'queue_full' | 'budget_infeasible' | 'too_long' | 'unknown_token' | 'grammar' | 'grammars_lost';
  /** Least total budget that would be guaranteed at this moment; null where none applies. */
  readonly leastFeasibleMs: number | null;
  /** What is wrong with the grammar, for the caller; how it was lost, for the log. */
  readonly detail?: string;
  /** Index of the function that is wrong, where it is one of several. */
  readonly part?: number | null;
}

export interface PromptEvent {
  readonly id: string;
  /** The next prompt tokens, in order, over one or several events; the very first has no prediction and is null. */
  readonly logprobs: readonly (TokenLogprobs | null)[];
}

export interface TokenEvent {
  readonly id: string;
  readonly token: number;
  /** Exit layer that emitted it. */
  readonly exit: number;
  readonly logprobs: TokenLogprobs | null;
}

export type EndReason = 'stop' | 'length' | 'deadline' | 'cancelled' | 'error';

export interface EndedEvent {
  readonly id: string;
  readonly reason: EndReason;
  /** Message for the log when reason is `error`, else null. */
  readonly error: string | null;
  /** The error is none of this answer's own: the same request may well succeed. */
  readonly isLost?: boolean;
  readonly promptTokens: number;
  /** Prompt tokens that prefix reuse saved. */
  readonly cachedTokens: number;
  readonly startedAt: number | null;
  readonly firstTokenAt: number | null;
  readonly endedAt: number;
  readonly preemptions: number;
  /** The end token that was sampled, which is no part of the answer: for requests with log-probabilities. */
  readonly endToken?: { readonly token: number; readonly logprobs: TokenLogprobs };
  /** What was drafted, by source; absent where nothing was. */
  readonly drafts?: readonly DraftCount[];
}

export interface LoadSnapshot {
  readonly running: number;
  readonly waiting: number;
  /** Share of the KV budget in use by live sequences and by reusable prefixes. */
  readonly kvUsed: number;
  readonly kvCached: number;
}

/** One message per engine step. */
export interface StepMessage {
  readonly type: 'step';
  readonly at: number;
  readonly planned: readonly PlannedEvent[];
  readonly refused: readonly RefusedEvent[];
  readonly prompts: readonly PromptEvent[];
  readonly tokens: readonly TokenEvent[];
  readonly ended: readonly EndedEvent[];
  readonly load: LoadSnapshot;
  /** What the step ran, for metrics; null where the step only did bookkeeping. */
  readonly work: StepWork | null;
}

export interface StepWork {
  readonly ms: number;
  /** The same with what lies between the step before and this one: what the cost model learns, and so predicts. */
  readonly cycleMs: number;
  /** What the cost model said of `cycleMs` before it learnt from this step. */
  readonly predictedMs: number;
  /** Rows decoded in each trunk stage. */
  readonly stageRows: readonly number[];
  readonly prefillTokens: number;
  /** Positions that deeper stages caught up over. */
  readonly catchUpTokens: number;
  /** The draft that was verified; absent where there was none. */
  readonly draft?: DraftCount;
  /** The step's milliseconds by the exit (index in the model's exits) whose sequences they were spent on. */
  readonly exitMs: readonly number[];
  /** One entry for each run of a stage or exit block. */
  readonly kernelRuns: readonly KernelRun[];
  /** How many times slower the machine is now than when its costs were measured at start, as the cost model learnt. */
  readonly slowdown: number;
}

export interface KernelRun {
  /** Name of the stage or exit block. */
  readonly unit: string;
  readonly mode: 'decode' | 'prefill';
  readonly kernel: KernelName;
}

/** Where the costs come from, and what was wrong with the cache, for the log. */
export interface Calibration {
  readonly source: 'cache' | 'measured';
  readonly note: string | null;
}

/** Said once, when the model is loaded and measured. */
export interface ReadyMessage {
  readonly type: 'ready';
  readonly name: string;
  readonly architecture: Architecture;
  readonly exits: readonly number[];
  /** Positions a sequence may have: the model's context, less where the KV budget is smaller. */
  readonly maxLength: number;
  readonly slots: number;
  readonly kvTokens: number;
  readonly kernels: readonly string[];
  readonly device: string;
  readonly cost: CostTable;
  readonly loadMs: number;
  readonly calibrateMs: number;
  readonly calibration?: Calibration;
  /** Why the folder's prior of output lengths is not used, for the log; null where it is. */
  readonly lengthPriorFault?: string | null;
}

/** The engine could not start or can't go on; it exits right after. `model` names a broken model folder. */
export interface FatalMessage {
  readonly type: 'fatal';
  readonly kind: 'model' | 'device' | 'internal';
  readonly message: string;
}

/** The answer to a ping, between two steps. */
export interface PongMessage {
  readonly type: 'pong';
}

export type FromEngine = ReadyMessage | StepMessage | PongMessage | FatalMessage;
