/** Sets up the OpenTelemetry SDK. tracing.ts loads this file only if tracing is on. */
import { diag, DiagLogLevel, ROOT_CONTEXT } from '@opentelemetry/api';
import { W3CTraceContextPropagator } from '@opentelemetry/core';
import { defaultResource, detectResources, envDetector, resourceFromAttributes } from '@opentelemetry/resources';
import { BatchSpanProcessor, NodeTracerProvider, type SpanExporter } from '@opentelemetry/sdk-trace-node';
import { setTimeout as delay } from 'node:timers/promises';
import { OptionError } from '../../cli/options/config.js';
import type { Logger } from './log.js';
import { SequenceSpans, startRequest } from './spans.js';
import type { Tracing } from './trace.js';

/** The longest time that a silent collector delays the exit of the process. */
const SHUTDOWN_MS = 5000;

const GETTER = {
  keys: (headers: object) => Object.keys(headers),
  get: (headers: Readonly<Record<string, string | string[] | undefined>>, name: string) => headers[name],
};

/** Each exporter reads endpoint, headers, time-out, compression and certificates from the environment. */
const EXPORTERS: Readonly<Record<string, () => Promise<SpanExporter>>> = {
  'http/protobuf': async () => new (await import('@opentelemetry/exporter-trace-otlp-proto')).OTLPTraceExporter(),
  'http/json': async () => new (await import('@opentelemetry/exporter-trace-otlp-http')).OTLPTraceExporter(),
  grpc: async () => new (await import('@opentelemetry/exporter-trace-otlp-grpc')).OTLPTraceExporter(),
};

/** Loads the exporter of the chosen protocol only: each one takes longer to load than the SDK. */
async function exporterOf(env: Readonly<Record<string, string | undefined>>): Promise<SpanExporter> {
  const names = ['OTEL_EXPORTER_OTLP_TRACES_PROTOCOL', 'OTEL_EXPORTER_OTLP_PROTOCOL'] as const;
  // An empty variable counts as unset, as the specification says.
  const [[name, protocol] = [names[1], 'http/protobuf']] = names.flatMap((each) => {
    const value = env[each] ?? '';
    return value === '' ? [] : [[each, value] as const];
  });
  const load = Object.hasOwn(EXPORTERS, protocol) ? EXPORTERS[protocol] : undefined;
  if (load !== undefined) return load();
  throw new OptionError(`${name} must be one of ${Object.keys(EXPORTERS).join(', ')}, got "${protocol}"`);
}

/** @throws OptionError for an unsupported protocol */
export async function otelTracing(
  env: Readonly<Record<string, string | undefined>>,
  version: string,
  log: Logger,
): Promise<Tracing> {
  const warn = (message: string): void => {
    log.warn({ component: 'opentelemetry' }, message);
  };
  diag.setLogger({ error: warn, warn, info: warn, debug: warn, verbose: warn }, DiagLogLevel.WARN);
  const provider = new NodeTracerProvider({
    resource: defaultResource()
      .merge(resourceFromAttributes({ 'service.name': 'sortie', 'service.version': version }))
      .merge(detectResources({ detectors: [envDetector] })),
    spanProcessors: [new BatchSpanProcessor(await exporterOf(env))],
  });
  const tracer = provider.getTracer('sortie', version);
  const sequences = new SequenceSpans(tracer);
  const propagator = new W3CTraceContextPropagator();
  return {
    request: (name, headers, arrivedAt, attributes) => {
      const parent = propagator.extract(ROOT_CONTEXT, headers, GETTER);
      return startRequest(tracer, sequences, parent, name, arrivedAt, attributes);
    },
    observe: (engine) => {
      sequences.observe(engine);
    },
    shutdown: async () => {
      const late = new AbortController();
      const failed = (error: unknown): void => {
        warn(`the exporter failed to send traces: ${String(error)}`);
      };
      const sent = provider.shutdown().catch(failed);
      const waited = delay(SHUTDOWN_MS, false, { signal: late.signal }).catch(() => true);
      const inTime = await Promise.race([sent.then(() => true), waited]);
      late.abort();
      return inTime;
    },
  };
}
