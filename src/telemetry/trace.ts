/** Traces as the rest of the server sees them. Must not know: the SDK, when tracing is on, HTTP frameworks. */
import type { Engine } from '../engine/client/engine.js';
import type { SequenceFacts } from './requests.js';

export type Attributes = Readonly<Record<string, string | number | boolean | string[]>>;

/** One HTTP request: a span, with the spans of its sequences below it. */
export interface RequestTrace {
  readonly traceId: string;
  /** A sequence of this request, before the engine hears of it. */
  begin(id: string, index: number, facts: SequenceFacts): void;
  /** Never text of prompts or answers. */
  describe(attributes: Attributes): void;
  /** @param status HTTP status of the answer */
  end(status: number): void;
}

export interface Tracing {
  /** @param headers whose traceparent and tracestate are continued; @param arrivedAt on the monotonic clock */
  request(
    name: string,
    headers: Readonly<Record<string, string | string[] | undefined>>,
    arrivedAt: number,
    attributes: Attributes,
  ): RequestTrace;
  /** @param engine whose events become spans from now on */
  observe(engine: Engine): void;
  /** Sends what is left. @returns false when a few seconds were not enough: the exporter may still be trying */
  shutdown(): Promise<boolean>;
}
