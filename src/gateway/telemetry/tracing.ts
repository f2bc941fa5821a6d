/** Starts OpenTelemetry's traces. The SDK (otel.ts) is loaded only if an exporter is configured. */
import type { Logger } from './log.js';
import type { Environment, Tracing } from './trace.js';

/** OpenTelemetry's own variables decide: an endpoint turns traces on. */
function isOn(env: Environment): boolean {
  const endpoints = [env.OTEL_EXPORTER_OTLP_ENDPOINT, env.OTEL_EXPORTER_OTLP_TRACES_ENDPOINT];
  const isOff = env.OTEL_SDK_DISABLED?.toLowerCase() === 'true' || env.OTEL_TRACES_EXPORTER === 'none';
  return !isOff && endpoints.some((endpoint = '') => endpoint !== '');
}

/** @returns null without an exporter; the SDK is not loaded then */
export async function startTracing(env: Environment, version: string, log: Logger): Promise<Tracing | null> {
  return isOn(env) ? (await import('./otel.js')).otelTracing(env, version, log) : null;
}
