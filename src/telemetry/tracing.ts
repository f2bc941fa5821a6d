/**
 * OpenTelemetry traces as the rest of the server sees them; the SDK is loaded only where an exporter is configured.
 *
 * Knows: when tracing is on. Must not know: the SDK (otel.ts), HTTP frameworks.
 */
import type { Engine } from '../engine/client/engine.js';
import type { Logger } from './log.js';
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

type Environment = Readonly<Record<string, string | undefined>>;

/** By OpenTelemetry's own variables: an endpoint turns traces on. */
function isOn(env: Environment): boolean {
  const set = (name: string): boolean => (env[name] ?? '') !== '';
  return (
    (set('OTEL_EXPORTER_OTLP_ENDPOINT') || set('OTEL_EXPORTER_OTLP_TRACES_ENDPOINT')) &&
    env.OTEL_SDK_DISABLED?.toLowerCase() !== 'true' &&
    env.OTEL_TRACES_EXPORTER !== 'none'
  );
}

/** @returns null where no exporter is configured: nothing is loaded then */
export async function startTracing(env: Environment, version: string, log: Logger): Promise<Tracing | null> {
  if (!isOn(env)) return null;
  const { otelTracing } = await import('./otel.js');
  return otelTracing(env, version, log);
}
