/** The values that an endpoint needs, passed in by the HTTP layer. Must not know: HTTP frameworks. */
import type { Engine } from '../engine/client/engine.js';
import type { ReadyMessage } from '../engine/protocol.js';
import { ApiError } from './errors.js';
import type { EncodingThread } from '../text/encoding/encoding-thread.js';
import type { ExitQuality } from '../quality/exit-quality.js';
import type { GateMeans } from '../quality/gate-means.js';
import type { RequestMetrics } from '../telemetry/requests.js';
import type { RequestTrace } from '../telemetry/trace.js';
import type { Headers } from './params/budget.js';
import type { RequestPolicy } from './params/policy.js';
import type { SamplingSource } from './params/sampling-defaults.js';
import type { ServedModel } from './served-model.js';

export interface Limits {
  readonly defaultExit: number | null;
  /** Deepest exit of thoughts whose request states none; null: that of the answer. */
  readonly thinkingExit: number | null;
  /** Most tokens of a chat answer whose request states no length; null: as many as the model's defaults say. */
  readonly maxTokensDefault: number | null;
  /** Source of the sampling fields that a request does not state. */
  readonly samplingDefaults: SamplingSource;
  /** Most prompts times n. */
  readonly maxChoices: number;
  /** Clients that share prefixes of their prompts: none, those with the same key, or all. */
  readonly prefixReuse: 'off' | 'key' | 'all';
  /** The policy for every client. The policy of an API key wins. */
  readonly policy: RequestPolicy;
}

/** The part of its client's allowance that a request may take. */
export interface Reservation {
  /** Prompt and answer together; the answer may turn out longer, which leaves a debt. */
  readonly tokens: number;
  /** The parameter that bounds the answer, for errors. */
  readonly maxTokensParam: string;
  /** Prompts times n. Each counts as a request. */
  readonly answers: number;
}

/** The key by which quality and lengths are learned: clients without a key share theirs. */
export function learningKey({ keyId, tenant }: Pick<Caller, 'keyId' | 'tenant'>): string | null {
  return keyId === null ? null : tenant;
}

/** The client of a request and its permissions. */
export interface Caller {
  /** The name of its API key; null without a key, or for a key without a name. */
  readonly keyName: string | null;
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
  reserve(asked: Reservation): (used: number) => void;
}

export interface ApiContext {
  readonly engine: Engine;
  readonly model: ServedModel;
  /** Encodes long texts, which would block the event loop. */
  readonly encoding: EncodingThread;
  readonly limits: Limits;
  readonly metrics: RequestMetrics;
  /** Estimated quality of each exit. */
  readonly quality: ExitQuality;
  /** Absent: the model has no gate. */
  readonly gates?: GateMeans;
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
  /** Tells the client, in a header, that a field of the request has no effect. Only before the answer begins. */
  warn(text: string): void;
  /** Adds fields to the request's log line. */
  addLogFields(fields: Readonly<Record<string, unknown>>): void;
  /** Adds fields that are read if the client disconnects, when the log line is written. */
  addCancelFields(fields: () => Readonly<Record<string, unknown>>): void;
}

/** The output of a streamed answer. */
export interface EventStream {
  /**
   * Sends an event, behind the status line.
   * @param data the JSON text of the event
   * @param name the event's name; absent: none
   */
  send(data: string, name?: string): void;
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

/** An answer in one piece. */
export interface JsonAnswer {
  readonly headers: Readonly<Record<string, string>>;
  readonly body: object;
}

/** @throws ApiError loading while no engine is ready */
export function readyEngine(context: ApiContext): ReadyMessage {
  const { ready } = context.engine;
  if (ready === null) throw new ApiError('loading', 'The model is loading; try again shortly.');
  return ready;
}
