/**
 * The OpenTelemetry SDK, and the spans of requests and of their calls. It is loaded only if tracing is on.
 *
 * @fastify/otel knows no instant of arrival, no client that disconnects, and no rule whose trace to continue.
 */
import * as otel from '@opentelemetry/api';
import { W3CTraceContextPropagator } from '@opentelemetry/core';
import { defaultResource, detectResources, envDetector, resourceFromAttributes } from '@opentelemetry/resources';
import { BatchSpanProcessor, NodeTracerProvider, type SpanExporter } from '@opentelemetry/sdk-trace-node';
import { setTimeout as delay } from 'node:timers/promises';
import { OptionError } from '../../cli/options/config.js';
import { monotonicMs } from '../../util/clock.js';
import type { Logger } from './log.js';
import { epoch, sequenceSpans } from './spans.js';
import type { Attributes, CallTrace, Environment, RequestTrace, Tracing } from './trace.js';

/** The longest time that a silent collector delays the exit of the process. */
const SHUTDOWN_MS = 5000;

const FAILED = { code: otel.SpanStatusCode.ERROR };

/** Each exporter reads endpoint, headers, time-out, compression and certificates from the environment. */
const EXPORTERS: Readonly<Record<string, () => Promise<SpanExporter>>> = {
  'http/protobuf': async () => new (await import('@opentelemetry/exporter-trace-otlp-proto')).OTLPTraceExporter(),
  'http/json': async () => new (await import('@opentelemetry/exporter-trace-otlp-http')).OTLPTraceExporter(),
  grpc: async () => new (await import('@opentelemetry/exporter-trace-otlp-grpc')).OTLPTraceExporter(),
};

/** Loads the exporter of the chosen protocol only: each one takes longer to load than the SDK. */
async function exporterOf(env: Environment): Promise<SpanExporter> {
  const names = ['OTEL_EXPORTER_OTLP_TRACES_PROTOCOL', 'OTEL_EXPORTER_OTLP_PROTOCOL'] as const;
  // An empty variable counts as unset, as the specification says.
  const name = names.find((each) => (env[each] ?? '') !== '');
  const protocol = name === undefined ? 'http/protobuf' : (env[name] ?? '');
  const load = Object.hasOwn(EXPORTERS, protocol) ? EXPORTERS[protocol] : undefined;
  if (load !== undefined) return load();
  throw new OptionError(`${name} must be one of ${Object.keys(EXPORTERS).join(', ')}, got "${protocol}"`);
}

const propagator = new W3CTraceContextPropagator();

/** Starts the span of a call to another server. */
function startCall(tracer: otel.Tracer, parent: otel.Context, name: string, attributes: Attributes): CallTrace {
  const { CLIENT: kind } = otel.SpanKind;
  const span = tracer.startSpan(name, { kind, startTime: epoch(monotonicMs()), attributes }, parent);
  const headers: Record<string, string> = {};
  propagator.inject(otel.trace.setSpan(parent, span), headers, otel.defaultTextMapSetter);
  return {
    headers,
    end(more, error) {
      span.setAttributes({ ...more, ...(error !== null && { 'error.type': error }) });
      if (error !== null) span.setStatus(FAILED);
      span.end(epoch(monotonicMs()));
    },
  };
}

/** The started span of a request. @param context holds the span */
function requestTrace(tracer: otel.Tracer, span: otel.Span, context: otel.Context): RequestTrace {
  let error: string | null = null;
  return {
    traceId: span.spanContext().traceId,
    sequence: (index) => (span.isRecording() ? sequenceSpans(tracer, context, index) : undefined),
    call: (called, more) => startCall(tracer, context, called, more),
    describe(more) {
      // The client may have disconnected while the gateway still read the request.
      if (!span.isRecording()) return;
      if (typeof more['error.type'] === 'string') error = more['error.type'];
      span.setAttributes(more);
    },
    end(status) {
      span.setAttribute('http.response.status_code', status);
      if (status >= 400 && error === null) span.setAttribute('error.type', String(status));
      // By the convention of HTTP servers, a client's mistake is not an error of the span.
      if (status >= 500 || (error !== null && status < 400)) span.setStatus(FAILED);
      // The SDK's default end time is Date.now(), which for a short request may lie before its start.
      span.end(epoch(monotonicMs()));
    },
  };
}

/** @throws OptionError for an unsupported protocol */
export async function otelTracing(env: Environment, version: string, log: Logger): Promise<Tracing> {
  const warn = (message: string): void => {
    log.warn({ component: 'opentelemetry' }, message);
  };
  otel.diag.setLogger({ error: warn, warn, info: warn, debug: warn, verbose: warn }, otel.DiagLogLevel.WARN);
  const provider = new NodeTracerProvider({
    resource: defaultResource()
      .merge(resourceFromAttributes({ 'service.name': 'sortie', 'service.version': version }))
      .merge(detectResources({ detectors: [envDetector] })),
    spanProcessors: [new BatchSpanProcessor(await exporterOf(env))],
  });
  const tracer = provider.getTracer('sortie', version);
  return {
    request: (name, headers, arrivedAt, attributes) => {
      const parent = propagator.extract(otel.ROOT_CONTEXT, headers, otel.defaultTextMapGetter);
      const { SERVER: kind } = otel.SpanKind;
      const span = tracer.startSpan(name, { kind, startTime: epoch(arrivedAt), attributes }, parent);
      return requestTrace(tracer, span, otel.trace.setSpan(parent, span));
    },
    shutdown: async () => {
      const late = new AbortController();
      const sent = provider.shutdown().catch((error: unknown) => {
        warn(`the exporter failed to send traces: ${String(error)}`);
      });
      const waited = delay(SHUTDOWN_MS, false, { signal: late.signal }).catch(() => true);
      const inTime = await Promise.race([sent.then(() => true), waited]);
      late.abort();
      return inTime;
    },
  };
}
