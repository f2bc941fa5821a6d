/**
 * OpenTelemetry traces as the rest of the server sees them. The SDK is loaded only if an exporter is configured.
 *
 * Must not know: the SDK (otel.ts), HTTP frameworks.
 */
import type { Engine } from '../engine/client/engine.js';
import type { Logger } from './log.js';
import type { SequenceFacts } from './requests.js';

export type Attributes = Readonly<Record<string, string | number | boolean | string[]>>;

/** One HTTP request: a span, with the spans of its sequences below it. */
export interface RequestTrace {
  readonly traceId: string;
  /** Registers a sequence of this request before the engine gets it. */
  begin(id: string, index: number, facts: SequenceFacts): void;
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
  /** Turns the events of this engine into spans. */
  observe(engine: Engine): void;
  /** Sends the remaining spans. @returns false if a few seconds did not suffice: the exporter may still be trying */
  shutdown(): Promise<boolean>;
}

type Environment = Readonly<Record<string, string | undefined>>;

/** OpenTelemetry's own variables decide: an endpoint turns traces on. */
function isOn(env: Environment): boolean {
  const set = (name: string): boolean => (env[name] ?? '') !== '';
  return (
    (set('OTEL_EXPORTER_OTLP_ENDPOINT') || set('OTEL_EXPORTER_OTLP_TRACES_ENDPOINT')) &&
    env.OTEL_SDK_DISABLED?.toLowerCase() !== 'true' &&
    env.OTEL_TRACES_EXPORTER !== 'none'
  );
}

/** @returns null without an exporter; the SDK is not loaded then */
export async function startTracing(env: Environment, version: string, log: Logger): Promise<Tracing | null> {
  if (!isOn(env)) return null;
  const { otelTracing } = await import('./otel.js');
  return otelTracing(env, version, log);
}
