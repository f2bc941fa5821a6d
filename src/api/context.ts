/** What serving an endpoint needs, handed in by the HTTP layer. Must not know: HTTP frameworks. */
import type { Engine } from '../engine/client/engine.js';
import type { ReadyMessage } from '../engine/protocol.js';
import { ApiError } from './errors.js';
import type { EncodingThread } from '../text/encoding/encoding-thread.js';
import type { RequestMetrics } from '../telemetry/requests.js';
import type { RequestTrace } from '../telemetry/trace.js';
import type { Headers } from './params/budget.js';
import type { RequestPolicy } from './params/policy.js';
import type { ServedModel } from './served-model.js';

export interface Limits {
  readonly defaultExit: number | null;
  readonly maxTokensDefault: number;
  /** Prompts times n. */
  readonly maxChoices: number;
  /** For every caller; a key's own wins. */
  readonly policy: RequestPolicy;
}

/** Who asks, and what that one may do. */
export interface Caller {
  /** Name of its API key; null without keys, or for a key without a name. */
  readonly keyName: string | null;
  readonly policy: RequestPolicy;
  /**
   * Takes tokens from the caller's allowance before any work is done.
   * @param most prompt and answer together, at the longest
   * @returns to be called once with what was used
   * @throws ApiError rate_limit_exceeded, or invalid_value where no wait is long enough
   */
  reserve(most: number): (used: number) => void;
}

export interface ApiContext {
  readonly engine: Engine;
  readonly model: ServedModel;
  /** Where the texts are encoded that would hold up the event loop. */
  readonly encoding: EncodingThread;
  readonly limits: Limits;
  readonly metrics: RequestMetrics;
}

/** A request as the API sees it. */
export interface ApiRequest<Body> {
  /** When it arrived, on the monotonic clock. */
  readonly arrivedAt: number;
  readonly headers: Headers;
  readonly body: Body;
  readonly caller: Caller;
  /** Aborts with `ClientGone`. */
  readonly signal: AbortSignal;
  /** Null where tracing is off. */
  readonly trace: RequestTrace | null;
  /** Adds fields to the request's log line. */
  addLogFields(fields: Readonly<Record<string, unknown>>): void;
}

/** Where a streamed answer goes. */
export interface EventStream {
  /** Sends the status line; only the first call has an effect. */
  open(): void;
  /** @param data an event's JSON text */
  send(data: string): void;
  /** Ends with an error: a plain JSON answer while the stream is not open, else an error event. */
  fail(error: ApiError): void;
  /** Sends [DONE] and ends. */
  end(): void;
}

/** An answer in one piece. */
export interface JsonAnswer {
  readonly headers: Readonly<Record<string, string>>;
  readonly body: object;
}

/** @throws ApiError loading while no engine is ready */
export function readyEngine(context: ApiContext): ReadyMessage {
  const { ready } = context.engine;
  if (ready === null) throw new ApiError('loading', 'The model is being loaded; try again shortly.');
  return ready;
}
