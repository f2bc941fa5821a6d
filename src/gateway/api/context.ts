/** The values that an endpoint needs, passed in by the HTTP layer. Must not know: HTTP frameworks. */
import { createHash } from 'node:crypto';
import type { Engine } from '../engine-client/engine.js';
import type { Budget, OnMiss, ReadyMessage } from '../../protocol/index.js';
import { ApiError } from './errors.js';
import type { EncodingThread } from '../text/encoding/encoding-thread.js';
import type { ScoreSum } from './params/score-limit.js';
import type { RefusalPace } from './generation/refusal-pace.js';
import type { OnEnd, SequenceFacts } from '../telemetry/requests.js';
import type { RequestTrace } from '../telemetry/trace.js';
import type { AnswerRecord } from '../telemetry/answer-record.js';
import type { Headers } from './schemas/headers.js';
import type { NetMode } from '../../cli/options/upstream-sections.js';
import type { ServedModel } from './served-model.js';

/** A budget of the operator; without an action on a miss, that of the policy holds. */
export type DefaultBudget = Omit<Budget, 'onMiss'> & { readonly onMiss: OnMiss | null };

export interface RequestPolicy {
  /** The budget of requests that state none. */
  readonly defaultBudget: DefaultBudget | null;
  /** The action on a miss of requests that state none; absent or null: `land`. */
  readonly onMiss?: OnMiss | null;
  /** The net of requests to upstreams that state none; absent or null: the server's. */
  readonly net?: NetMode | null;
  /** Depth bounds of every request; null for the model's own bound. */
  readonly minExit: number | null;
  readonly maxExit: number | null;
  /** Most tokens of an answer; absent or null: no bound. */
  readonly maxTokens?: number | null;
  /** Least share of right answers of the exits that the scheduler chooses among; absent: any. */
  readonly minAccuracy?: number;
}

export const openPolicy: RequestPolicy = { defaultBudget: null, minExit: null, maxExit: null };

/** The policy of a key wins over the policy for all. */
export function policyOf(all: RequestPolicy, key: RequestPolicy): RequestPolicy {
  return {
    defaultBudget: key.defaultBudget ?? all.defaultBudget,
    onMiss: key.onMiss ?? all.onMiss ?? null,
    net: key.net ?? all.net ?? null,
    minExit: key.minExit ?? all.minExit,
    maxExit: key.maxExit ?? all.maxExit,
    maxTokens: key.maxTokens ?? all.maxTokens ?? null,
    ...(all.minAccuracy !== undefined && { minAccuracy: all.minAccuracy }),
  };
}

/** Most answers to one request: prompts times n. */
export const MOST_CHOICES = 64;

/** The operator's limits, by the options of the same names. */
export interface Limits {
  readonly maxTokensDefault: number | null;
  readonly prefixReuse: 'off' | 'key' | 'all';
  /** The policy for every client. The policy of an API key wins. */
  readonly policy: RequestPolicy;
}

/** The part of its client's allowance that a request may take. */
export interface Quota {
  /** Prompt and answer together; the answer may turn out longer, which leaves a debt. */
  readonly tokens: number;
  /** The parameter that bounds the answer, for errors. */
  readonly maxTokensParam: string;
  /** Prompts times n. Each counts as a request. */
  readonly answers: number;
}

/** The client of a request and its permissions. */
export interface Caller {
  /** An opaque name that is different for each API key; null without a key. */
  readonly keyId: string | null;
  /** An opaque name by which clients share the server: of the key, or of the network address without one. */
  readonly tenant: string;
  readonly policy: RequestPolicy;
  /**
   * Takes tokens and answers from the client's allowance before any work is done.
   * @returns a function to call once with the tokens used
   * @throws ApiError rate_limit_exceeded, or invalid_value if the allowance is always too small
   */
  reserve(asked: Quota): (used: number) => void;
}

/**
 * The space in which a prompt may share its prefix with other prompts. A shared prefix shows in `cached_tokens` and in
 * the time to the first token. Across clients it would tell one client about the prompts of another one.
 * @param salt the request's `cache_salt`
 * @returns a digest of salt and key, or of the network address without a key, which reveals none; null for the common
 * space
 */
export function prefixSpace(
  reuse: Limits['prefixReuse'],
  { keyId, tenant }: Pick<Caller, 'keyId' | 'tenant'>,
  salt: string | undefined,
): string | null {
  const key = reuse === 'key' ? (keyId ?? tenant) : null;
  if (key === null && salt === undefined) return null;
  return createHash('sha256')
    .update(JSON.stringify([key, salt ?? null]))
    .digest('base64url');
}

/** Counts of sequences and requests, for metrics. */
export interface AnswerMetrics {
  /** Registers a sequence before the engine gets it. @param onEnd gets it at its end */
  begin(id: string, facts: SequenceFacts, onEnd?: OnEnd): void;
  /** A request that found no room. */
  full(sequences: number): void;
  /** A fault of the gateway ended the sequence. */
  broken(id: string): void;
  /** Sequences that have not ended. */
  readonly live: number;
  /** Predicted wait of a new request, ms; null without a ready engine. */
  readonly waitMs: number | null;
}

export interface ApiContext {
  readonly engine: Engine;
  readonly model: ServedModel;
  /** Encodes long texts, which would block the event loop. */
  readonly encoding: EncodingThread;
  readonly limits: Limits;
  readonly metrics: AnswerMetrics;
  /** The log-probabilities of the requests that run. */
  readonly scores: ScoreSum;
  /** When refusals may leave. */
  readonly refusals: RefusalPace;
  /** Names of models that run elsewhere; absent: none. */
  readonly upstreamNames?: readonly string[];
}

/** A request as the API sees it. */
export interface ApiRequest<Body> {
  /** The id in the X-Request-Id of the response, and in the log. */
  readonly id: string;
  /** Arrival on the monotonic clock, here or at the first trusted proxy that states it. */
  readonly arrivedAt: number;
  /** Milliseconds from that arrival to the arrival here. */
  readonly waitedMs: number;
  readonly headers: Headers;
  readonly body: Body;
  readonly caller: Caller;
  /** Aborts with `ClientGone`. */
  readonly signal: AbortSignal;
  /** Null if tracing is off. */
  readonly trace: RequestTrace | null;
  /** Adds fields to the request's log line. */
  addLogFields(fields: Readonly<Record<string, unknown>>): void;
  /** Takes the record of the answer at its end, once. Headers have it if the status line is not out. */
  answered(record: AnswerRecord): void;
  /** Adds fields that are read if the client disconnects, when the log line is written. */
  addCancelFields(fields: () => Readonly<Record<string, unknown>>): void;
}

/** The output of a streamed answer. */
export interface EventStream {
  /**
   * Sends an event, behind the status line.
   * @param event written as JSON
   * @param name the event's name, for protocols that name their events
   */
  send(event: object, name?: string): void;
  /** Resolves once the client has read on, or is gone. Null while it keeps up. */
  drained(): Promise<void> | null;
  /**
   * Ends with a plain JSON response, unless the status line is sent.
   * @returns whether it did; else the error is to be sent as an event
   */
  reject(error: ApiError): boolean;
  /** @param last the data of the last event; null for none */
  end(last: string | null): void;
}

/** @throws ApiError loading while no engine is ready */
export function readyEngine(context: ApiContext): ReadyMessage {
  const { ready } = context.engine;
  if (ready === null) throw new ApiError('loading', 'The model is loading; try again shortly.');
  return ready;
}
