/**
 * OpenTelemetry traces as the rest of the server sees them. The SDK is loaded only if an exporter is configured.
 *
 * Must not know: the SDK (otel.ts), HTTP frameworks.
 */
import type { Logger } from './log.js';
import type { Tracing } from './trace.js';

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
