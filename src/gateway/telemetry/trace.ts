/** Traces as the rest of the server sees them. Must not know: the SDK, when tracing is on, HTTP frameworks. */
import type { OnEnd } from './requests.js';

/** A span leaves out attributes that are undefined. */
export type Attributes = Readonly<Record<string, string | number | boolean | string[] | undefined>>;

/** A call to another server, as a span below that of its request. */
export interface CallTrace {
  /** The headers that carry the trace to the server. */
  readonly headers: Readonly<Record<string, string>>;
  /** @param error its type; null without a fault */
  end(attributes: Attributes, error: string | null): void;
}

/** One HTTP request: a span, with the spans of its sequences below it. */
export interface RequestTrace {
  readonly traceId: string;
  /** Makes the spans of a choice at its end; undefined: the trace is not sampled. */
  sequence(index: number): OnEnd | undefined;
  /** Begins a call to another server. */
  call(name: string, attributes: Attributes): CallTrace;
  /** Adds attributes. They never hold text of prompts or answers. */
  describe(attributes: Attributes): void;
  /** @param status HTTP status of the answer */
  end(status: number): void;
}

export interface Tracing {
  /**
   * @param headers their traceparent and tracestate are continued
   * @param arrivedAt on the monotonic clock
   */
  request(
    name: string,
    headers: Readonly<Record<string, string | string[] | undefined>>,
    arrivedAt: number,
    attributes: Attributes,
  ): RequestTrace;
  /** Sends the remaining spans. @returns false if a few seconds did not suffice: the exporter may still be trying */
  shutdown(): Promise<boolean>;
}

export type Environment = Readonly<Record<string, string | undefined>>;
