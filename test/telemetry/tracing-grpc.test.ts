/** Traces over gRPC, as a collector on port 4317 receives them. */
import { pino } from 'pino';
import t from 'tap';
import { startTracing } from '../../src/gateway/telemetry/tracing.js';
import { collectGrpc } from '../fakes/grpc-collector.js';
import { build, says } from '../fakes/server.js';

const log = pino({ level: 'silent' });

/** Starts tracing over gRPC. The SDK reads the environment of the process. */
async function tracingTo(url: string) {
  const before = { ...process.env };
  Object.assign(process.env, {
    OTEL_EXPORTER_OTLP_PROTOCOL: 'grpc',
    OTEL_EXPORTER_OTLP_ENDPOINT: url,
    OTEL_EXPORTER_OTLP_HEADERS: 'authorization=Bearer%20collector',
  });
  const tracing = await startTracing(process.env, '1.2.3', log);
  process.env = before;
  if (tracing === null) throw new Error('tracing is off');
  return tracing;
}

void t.test('a collector gets the spans of a request, with its headers', async (t) => {
  const collector = await collectGrpc(t);
  const tracing = await tracingTo(collector.url);
  const server = await build(t, says('one two'), { tracing });
  const { id } = (await (await server.post('/v1/completions', { prompt: 'Hi' })).json()) as { id: string };
  t.equal(await tracing.shutdown(), true);
  t.same(collector.spans.map(({ name }) => name).sort(), ['POST /v1/completions', 'decode', 'prefill', 'queue']);
  const root = collector.spans.find(({ name }) => name.startsWith('POST'));
  t.match(root?.attributes, { 'gen_ai.response.id': id, 'gen_ai.usage.output_tokens': 2 });
  t.match(collector.resource, { 'service.name': 'sortie', 'service.version': '1.2.3' });
  t.ok(collector.authorizations.length > 0);
  for (const each of collector.authorizations) t.equal(each, 'Bearer collector');
});

void t.test('without a collector the answer comes, and the end of the server waits a bounded time', async (t) => {
  const tracing = await tracingTo('http://127.0.0.1:9');
  const server = await build(t, says('one two'), { tracing });
  t.equal((await server.post('/v1/completions', { prompt: 'Hi' })).status, 200);
  const start = performance.now();
  await tracing.shutdown();
  t.ok(performance.now() - start < 8000, `${Math.round(performance.now() - start)} ms`);
});
