/**
 * A request as the engine gets it: made once from the validated body, sent over IPC, and read by the scheduler.
 *
 * Rules of sampling that several parts go by, and the greedy one. Must not know: logits.
 *
 * Must not know: HTTP, text.
 */
import type { ExitLayer } from '../engine/scheduler/cost/model.js';
import type { Dry } from '../engine/model/manifest.js';
import type { Grammar } from './grammar.js';

/**
 * The effect of a budget on an answer that would be late.
 * - `land`: the answer ends early at the end of a sentence, or at its deadline where no sentence ends. The engine
 *   refuses an answer that can't land and is unlikely to be whole.
 * - `continue`: it ends late. `truncate`: it ends at its deadline, wherever that is.
 * - `reject`: it lands, and does not begin where not even one sentence fits.
 */
export type OnMiss = 'land' | 'continue' | 'truncate' | 'reject';

/** A client's latency budget. Null fields were not stated. */
export interface Budget {
  /** From arrival of the request to the last byte. */
  readonly totalMs: number | null;
  readonly ttftMs: number | null;
  /** Mean per token after the first. */
  readonly tpotMs: number | null;
  /** To the end of the first sentence. Absent: not stated. */
  readonly sentenceMs?: number;
  readonly onMiss: OnMiss;
}

/** The depths a request may use: a pinned depth has minExit = maxExit. */
export interface DepthRequest {
  readonly minExit: ExitLayer;
  readonly maxExit: ExitLayer;
  readonly budget: Budget | null;
}

/** Answers whose texts and sentences get about as long: the unit of the estimation of lengths. `code`: of a chat. */
export type AnswerKind = 'chat' | 'code' | 'completion' | 'schema' | 'tools';

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
  /** Absent: the DRY rule of each token's exit. */
  readonly dry?: Dry;
  /** [token id, bias] pairs. */
  readonly logitBias: readonly (readonly [number, number])[];
}

/** The fields that all sequences of an answer share. */
interface SharedFields {
  /** Arrival of the HTTP request. */
  readonly arrivedAt: number;
  /** The engine samples no end token before this many tokens. */
  readonly minTokens: number;
  /** Ids that end the answer (empty with ignore_eos). The engine does not emit the end token itself. */
  readonly stopTokens: readonly number[];
  /** Null: none. 0 to 20: log-probability of the sampled token, and of this many alternatives. */
  readonly logprobs: number | null;
  /** The same for the prompt's own tokens (echo). */
  readonly promptLogprobs: number | null;
  readonly depth: DepthRequest;
  readonly kind: AnswerKind;
  /** Opaque name of the client: fair shares count by it. Absent: a client in common with all such requests. */
  readonly tenant?: string;
  /**
   * Opaque name of the space in which the prompt may share its prefix. Prompts of different spaces share nothing.
   * Absent: the common space.
   */
  readonly prefixSpace?: string;
  /** Constrains the answer. Absent or null: any text. */
  readonly grammar?: Grammar | null;
  /** Tokens that the client expects in the answer; a source of drafts. */
  readonly prediction?: readonly number[] | null;
  /** Whether drafts are allowed; absent or null: by the engine's options. */
  readonly speculate?: boolean | null;
  /** The engine plans the request as it would at this moment, and ends it before it takes a place in the queue. */
  readonly isDryRun?: boolean;
  /** It is the answer of a net: it is promised or rejected, and sleeps until its latest start or its wake. */
  readonly isNet?: boolean;
}

/** The whole answer to one HTTP request: one message carries it, and holds each prompt once. */
export interface EngineRequest extends SharedFields {
  readonly sampling: Omit<Sampling, 'seed'>;
  /** Token ids of each prompt, at least one. */
  readonly prompts: readonly (readonly number[])[];
  /** One for each choice: those of the first prompt come first. */
  readonly sequences: readonly {
    readonly id: string;
    /** Index of its prompt. */
    readonly prompt: number;
    readonly maxTokens: number;
    readonly seed: number | null;
  }[];
}

/** One sequence of an answer, as the scheduler gets it. */
export interface SequenceRequest extends SharedFields {
  readonly id: string;
  /** At least one token id. */
  readonly prompt: readonly number[];
  /** 0 is allowed with promptLogprobs only: the engine generates nothing. */
  readonly maxTokens: number;
  readonly sampling: Sampling;
}

/** The sequences of an answer, in the order of its choices. They share their prompts and fields by reference. */
export function sequencesOf({ prompts, sequences, sampling, ...shared }: EngineRequest): SequenceRequest[] {
  return sequences.map(({ id, prompt, maxTokens, seed }) => ({
    ...shared,
    id,
    prompt: prompts[prompt] ?? [],
    maxTokens,
    sampling: { ...sampling, seed },
  }));
}

/** Always samples the most likely token. */
export const GREEDY: Sampling = {
  temperature: 0,
  topP: 1,
  topK: 0,
  minP: 0,
  seed: null,
  presencePenalty: 0,
  frequencyPenalty: 0,
  repetitionPenalty: 1,
  logitBias: [],
};

/** Whether a request changes single logits, so that the largest unchanged logits cannot decide. */
export function changesLogits(sampling: Sampling): boolean {
  return (
    sampling.presencePenalty !== 0 ||
    sampling.frequencyPenalty !== 0 ||
    sampling.repetitionPenalty !== 1 ||
    sampling.logitBias.length > 0
  );
}
