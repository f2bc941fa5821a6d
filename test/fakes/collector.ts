/** A small OpenTelemetry collector: it accepts OTLP over HTTP and keeps the requests. */
import { createServer } from 'node:http';
import { type Logger, pino } from 'pino';
import type { Tracing } from '../../src/gateway/telemetry/trace.js';
import { startTracing } from '../../src/gateway/telemetry/tracing.js';
import { listening } from './upstream.js';

type Value = { readonly stringValue: string } | { readonly intValue: number } | object;

export interface CollectedSpan {
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId?: string;
  readonly name: string;
  readonly kind: number;
  readonly startTimeUnixNano: string;
  readonly endTimeUnixNano: string;
  readonly attributes: readonly { readonly key: string; readonly value: Value }[];
  readonly status?: { readonly code?: number };
}

interface Post {
  readonly path: string;
  readonly type: string;
  readonly body: Buffer;
}

export interface Collector {
  readonly url: string;
  readonly posts: readonly Post[];
  /** Spans of all JSON requests, in order of arrival. */
  spans(): CollectedSpan[];
  /** Attributes of the resource, from the first JSON request. */
  resource(): Record<string, unknown>;
}

/** OTLP attributes as plain values. */
export function valuesOf(attributes: CollectedSpan['attributes']): Record<string, unknown> {
  const plain = (value: Value): unknown => {
    if ('arrayValue' in value) return (value.arrayValue as { values: Value[] }).values.map(plain);
    return Object.values(value)[0] as unknown;
  };
  return Object.fromEntries(attributes.map(({ key, value }) => [key, plain(value)]));
}

/** Starts tracing. The SDK reads the environment of the process. */
export async function tracingTo(
  url: string,
  variables: NodeJS.ProcessEnv = { OTEL_EXPORTER_OTLP_PROTOCOL: 'http/json' },
  log: Logger = pino({ level: 'silent' }),
): Promise<Tracing> {
  const before = { ...process.env };
  Object.assign(process.env, variables, { OTEL_EXPORTER_OTLP_ENDPOINT: url });
  const tracing = await startTracing(process.env, '1.2.3', log);
  process.env = before;
  if (tracing === null) throw new Error('tracing is off');
  return tracing;
}

/** @param t gets the teardown */
export async function collect(t: { teardown(end: () => unknown): void }): Promise<Collector> {
  const posts: Post[] = [];
  const server = createServer((request, response) => {
    const parts: Buffer[] = [];
    request.on('data', (part: Buffer) => parts.push(part));
    request.on('end', () => {
      const type = request.headers['content-type'] ?? '';
      posts.push({ path: request.url ?? '', type, body: Buffer.concat(parts) });
      response.writeHead(200, { 'content-type': 'application/json' }).end('{}');
    });
  });
  const url = await listening(t, server);
  interface Export {
    resourceSpans: {
      resource: { attributes: CollectedSpan['attributes'] };
      scopeSpans: { spans: CollectedSpan[] }[];
    }[];
  }
  const exports = () => posts.map(({ body }) => JSON.parse(body.toString()) as Export);
  return {
    url,
    posts,
    spans: () =>
      exports().flatMap(({ resourceSpans }) =>
        resourceSpans.flatMap(({ scopeSpans }) => scopeSpans.flatMap(({ spans }) => spans)),
      ),
    resource: () => valuesOf(exports()[0]?.resourceSpans[0]?.resource.attributes ?? []),
  };
}
