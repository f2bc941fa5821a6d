/** Traces as a collector receives them. */
import { createServer } from 'node:http';
import { pino } from 'pino';
import t, { type Test } from 'tap';
import { monotonicMs } from '../../src/util/clock.js';
import { startTracing } from '../../src/gateway/telemetry/tracing.js';
import { collect, tracingTo, valuesOf, type CollectedSpan, type Collector } from '../fakes/collector.js';
import type { Script } from '../fakes/engine.js';
import { listening } from '../fakes/upstream.js';
import { build, says, type Overrides, type TestServer } from '../fakes/server.js';
import { until } from '../support/until.js';

const log = pino({ level: 'silent' });
const VARIABLES = { OTEL_EXPORTER_OTLP_PROTOCOL: 'http/json', OTEL_SERVICE_NAME: 'gateway-7' };

interface Traced extends TestServer {
  readonly collector: Collector;
  /** Sends the remaining spans. @returns all of them */
  spans(): Promise<CollectedSpan[]>;
}

async function traced(t: Test, script: () => Script, overrides: Overrides = {}): Promise<Traced> {
  const collector = await collect(t);
  const tracing = await tracingTo(collector.url, VARIABLES);
  const server = await build(t, script, { ...overrides, tracing });
  return {
    ...server,
    collector,
    spans: async () => {
      await until('responses end', () => server.app.responses.size === 0);
      await tracing.shutdown();
      return collector.spans();
    },
  };
}

/** The answer to a short prompt. */
const completed = async (server: TestServer, body: object = {}, headers = {}): Promise<string> =>
  (await server.post('/v1/completions', { prompt: 'Hi', ...body }, headers)).text();

const named = (spans: readonly CollectedSpan[], name: string) => {
  const span = spans.find((span) => span.name === name);
  if (span === undefined) throw new Error(`no span ${name} among ${spans.map(({ name }) => name).join(', ')}`);
  return { ...span, values: valuesOf(span.attributes) };
};

void t.test('tracing is off and the SDK is not loaded without an endpoint', async (t) => {
  for (const env of [
    {},
    { OTEL_EXPORTER_OTLP_ENDPOINT: '' },
    { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://x', OTEL_SDK_DISABLED: 'true' },
    { OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: 'http://x', OTEL_TRACES_EXPORTER: 'none' },
  ]) {
    t.equal(await startTracing(env, '1', log), null);
  }
});

void t.test(
  'an unsupported protocol is an error that names its variable; an empty variable counts as unset',
  async (t) => {
    const endpoint = { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:9' };
    for (const name of ['OTEL_EXPORTER_OTLP_PROTOCOL', 'OTEL_EXPORTER_OTLP_TRACES_PROTOCOL']) {
      await t.rejects(
        startTracing({ ...endpoint, [name]: 'thrift' }, '1', log),
        { name: 'OptionError', message: `${name} must be one of http/protobuf, http/json, grpc, got "thrift"` },
        name,
      );
      for (const protocol of ['', 'grpc']) {
        const tracing = await startTracing({ ...endpoint, [name]: protocol }, '1', log);
        t.not(tracing, null, `on, with ${protocol || 'the default protocol'}`);
        await tracing?.shutdown();
      }
    }
    await t.rejects(
      startTracing({ ...endpoint, OTEL_EXPORTER_OTLP_TRACES_PROTOCOL: '', OTEL_EXPORTER_OTLP_PROTOCOL: 'x' }, '1', log),
      { message: 'OTEL_EXPORTER_OTLP_PROTOCOL must be one of http/protobuf, http/json, grpc, got "x"' },
    );
  },
);

void t.test('a request continues a trusted trace, with queue, prefill and decode below it', async (t) => {
  const lines: string[] = [];
  const script = says('one two three four', { exits: [30, 15, 15, 30], pace: 5 });
  const options = { trustedProxies: ['loopback'] };
  const server = await traced(t, script, { log: (line) => lines.push(line), options });
  const traceId = '0af7651916cd43dd8448eb211c80319c';
  const messages = [{ role: 'user', content: 'a secret question' }];
  const body = { messages, temperature: 0, seed: 7, max_tokens: 9, stream: true };
  const traceparent = `00-${traceId}-b7ad6b7169203331-01`;
  const headers = { traceparent, 'X-Latency-Budget-Ms': '5000', 'X-Request-Id': 'r1' };
  await (await server.post('/v1/chat/completions', body, headers)).text();
  const spans = await server.spans();
  t.match(server.collector.resource(), { 'service.name': 'gateway-7', 'service.version': '1.2.3' });
  t.equal(server.collector.posts[0]?.path, '/v1/traces');
  const names = ['POST /v1/chat/completions', 'decode', 'prefill', 'queue'];
  t.same(spans.map(({ name }) => name).sort(), names);
  t.ok(spans.every((span) => span.traceId === traceId));

  const root = named(spans, 'POST /v1/chat/completions');
  t.equal(root.parentSpanId, 'b7ad6b7169203331');
  t.equal(root.kind, 2, 'server');
  t.match(root.values, {
    ...{ 'http.request.method': 'POST', 'http.route': '/v1/chat/completions', 'url.path': '/v1/chat/completions' },
    ...{ 'url.scheme': 'http', 'http.response.status_code': 200, 'gen_ai.operation.name': 'chat' },
    ...{ 'gen_ai.provider.name': 'sortie', 'gen_ai.request.model': 'fake', 'gen_ai.response.model': 'fake' },
    ...{ 'gen_ai.request.max_tokens': 9, 'gen_ai.request.seed': 7, 'gen_ai.usage.output_tokens': 4 },
    ...{ 'gen_ai.response.finish_reasons': ['stop'], 'sortie.request_id': 'r1' },
    ...{ 'sortie.budget_ms': 5000, 'sortie.budget_met': true },
  });
  t.match(JSON.parse(lines.at(-1) ?? ''), { msg: 'request', trace_id: traceId }, 'the log line has the trace id');

  const parts = ['queue', 'prefill', 'decode'].map((name) => named(spans, name));
  for (const part of parts) t.equal(part.parentSpanId, root.spanId, part.name);
  const [queue, prefill, decode] = parts;
  t.match(queue?.values, { 'sortie.plan.exit_layer': 30, 'sortie.plan.service_class': 'guaranteed' });
  t.match(queue?.values, { 'sortie.plan.predicted_ms': 10 });
  t.match(prefill?.values, { 'gen_ai.usage.input_tokens': root.values['gen_ai.usage.input_tokens'] });
  t.match(decode?.values, { 'gen_ai.usage.output_tokens': 4, 'sortie.exit_layer': 30 });
  t.match(decode?.values, { 'sortie.cached_tokens': 2, 'sortie.preemptions': 0 });
  t.equal(decode?.values['sortie.exit_changes'], 2);
  const ns = (text: string | undefined) => BigInt(text ?? 0);
  t.equal(ns(queue?.startTimeUnixNano), ns(root.startTimeUnixNano), 'the queue span starts with the request');
  for (const part of parts) t.ok(ns(part.endTimeUnixNano) >= ns(part.startTimeUnixNano), part.name);
  t.notMatch(server.collector.posts.map(({ body }) => body.toString()).join(''), /secret|one two/, 'no text');
});

void t.test('a span has the id of the answer that the client gets, and facts of the request', async (t) => {
  const server = await traced(t, says('one two'));
  const messages = [{ role: 'user', content: 'Hi' }];
  const chat = (body: object) => server.post('/v1/chat/completions', { messages, ...body });
  const whole = (await (await chat({ stop: ['a', 'b'] })).json()) as { id: string };
  const streamed = await (await chat({ stream: true, stop: Array.from({ length: 4 }, String) })).text();
  const json = { prompt: 'Hi', response_format: { type: 'json_object' } };
  const completion = await server.post('/v1/completions', json);
  const text = (await completion.json()) as { id: string };
  const ids = [whole.id, /"id":"(chatcmpl-\w+)"/.exec(streamed)?.[1], text.id];
  const roots = (await server.spans()).filter(({ name }) => name.startsWith('POST'));
  const values = roots.map(({ attributes }) => valuesOf(attributes));
  const told = values.map((each) => each['gen_ai.response.id']);
  t.same(told, ids);
  t.match(ids, [/^chatcmpl-\w{24}$/, /^chatcmpl-\w{24}$/, /^cmpl-\w{24}$/]);
  t.match(values, [
    { 'server.address': '127.0.0.1', 'server.port': server.port, 'gen_ai.request.stream': false },
    { 'gen_ai.request.stream': true, 'gen_ai.output.type': 'text', 'gen_ai.usage.cache_read.input_tokens': Number },
    { 'gen_ai.output.type': 'json', 'gen_ai.request.stop_sequences': undefined },
  ]);
  for (const each of values) t.ok(Number(each['gen_ai.response.time_to_first_chunk']) < 10, 'in seconds');
});

void t.test("each choice has its spans once; without a client's trace a new one starts", async (t) => {
  const server = await traced(t, says('one two'));
  await completed(server, { n: 2 });
  server.engine.die();
  const spans = await server.spans();
  t.equal(spans.length, 1 + 2 * 3, 'an engine exit afterwards adds no spans');
  const decodes = spans.filter(({ name }) => name === 'decode');
  const indices = decodes.map((span) => valuesOf(span.attributes)['sortie.choice.index']);
  t.same(indices.sort(), [0, 1]);
  const root = named(spans, 'POST /v1/completions');
  t.notOk(root.parentSpanId);
  t.match(root.traceId, /^[0-9a-f]{32}$/);
  t.match(root.values, {
    'gen_ai.operation.name': 'text_completion',
    'gen_ai.request.choice.count': 2,
    'gen_ai.usage.output_tokens': 4,
    'gen_ai.response.finish_reasons': ['stop', 'stop'],
  });
});

void t.test('a landing, and the reason of the depth, are attributes of the request and of its sequence', async (t) => {
  const ended = { landed: { at: 2, pressure: 4, probability: 0.1 } };
  const server = await traced(t, says('one two', { ended, plan: { reason: 'load' } }));
  await completed(server, {}, { 'X-Latency-Budget-Ms': '5000' });
  const spans = await server.spans();
  const root = named(spans, 'POST /v1/completions');
  t.match(root.values, { 'sortie.plan.reason': 'load', 'sortie.landed.at_token': 2, 'sortie.budget_on_miss': 'land' });
  t.match(named(spans, 'queue').values, { 'sortie.plan.reason': 'load', 'sortie.plan.landing': 'possible' });
  t.match(named(spans, 'decode').values, { 'sortie.landed.at_token': 2, 'sortie.landed.pressure': 4 });
});

void t.test('a client that disconnects ends the span of its request', async (t) => {
  const server = await traced(t, says('one two three four', { pace: 50 }));
  for (const stream of [true, false]) {
    const abort = new AbortController();
    server.post('/v1/completions', { prompt: 'Hi', stream }, {}, abort.signal).catch(() => undefined);
    await until('running', () => server.engine.live === 1);
    await new Promise((go) => setTimeout(go, 30));
    abort.abort();
    await until('idle', () => server.engine.live === 0);
  }
  const roots = (await server.spans()).filter(({ name }) => name.startsWith('POST'));
  const found = roots.map(({ attributes }) => valuesOf(attributes));
  const [streamed, whole] = [200, 499].map((status) => ({ 'http.response.status_code': status }));
  const left = { 'error.type': 'client_disconnected' };
  t.match(found, [
    { ...streamed, ...left },
    { ...whole, ...left },
  ]);
});

void t.test('an engine failure marks the last span of the sequence as failed, and no other', async (t) => {
  for (const [text, last] of [
    ['one two', 'decode'],
    ['', 'prefill'],
  ] as const) {
    const server = await traced(t, says(text, { end: 'error' }));
    await completed(server);
    const spans = await server.spans();
    t.match(named(spans, last), {
      status: { code: 2, message: 'engine_failed' },
      values: { 'sortie.cached_tokens': 1 },
    });
    const others = spans.filter(({ name }) => name !== last && !name.startsWith('POST'));
    for (const { name, status } of others) t.equal(status?.code ?? 0, 0, name);
    t.equal(others.length, last === 'decode' ? 2 : 1);
  }
});

void t.test("a collector's rejection is logged, and no timer delays the exit", async (t) => {
  const collector = createServer((_, response) => response.writeHead(400).end());
  const logged: string[] = [];
  const warns = pino({ level: 'warn' }, { write: (line) => logged.push(line) });
  const tracing = await tracingTo(await listening(t, collector), {}, warns);
  const timers = (): number => process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length;
  const before = timers();
  const request = tracing.request('POST /', {}, monotonicMs(), {});
  request.end(200);
  request.describe({ 'sortie.budget_met': true });
  t.equal(await tracing.shutdown(), true, 'in time');
  t.equal(timers(), before);
  // The loggers of the other tests came first.
  const own = logged.filter((line) => !line.includes('overwrite'));
  t.match(own, [/"component":"opentelemetry","msg":"the exporter failed to send traces: .*Bad Request"/]);
  t.equal(own.length, 1, 'attributes after the end of a request log nothing');
});

void t.test('a trusted trace that is not sampled has no spans; the header of others is ignored', async (t) => {
  const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00';
  const spansOf = async (overrides: Overrides): Promise<CollectedSpan[]> => {
    const server = await traced(t, says('one two'), overrides);
    await completed(server, {}, { traceparent });
    return server.spans();
  };
  t.same(await spansOf({ options: { trustedProxies: ['127.0.0.1'] } }), []);
  const root = named(await spansOf({}), 'POST /v1/completions');
  t.not(root.traceId, '0af7651916cd43dd8448eb211c80319c');
  t.match(root.values, { 'client.address': '127.0.0.1', 'url.scheme': 'http' });
});

void t.test('an answer cut at its deadline does not count as failed, whatever the engine does later', async (t) => {
  for (const fails of [true, false]) {
    const server = await traced(t, says('one two', { pace: 20, ...(fails && { end: 'error' }) }));
    const response = await server.post('/v1/completions', { prompt: 'Hi', stream: true });
    const { id = '' } = server.engine.requests[0] ?? {};
    const times = { startedAt: null, firstTokenAt: monotonicMs(), endedAt: monotonicMs() };
    const cut = { ...times, promptTokens: 1, cachedTokens: 0, preemptions: 0 };
    server.engine.emit('cut', { id, reason: 'deadline', error: null, ...cut });
    if (!fails) server.engine.die();
    await response.text();
    const decode = named(await server.spans(), 'decode');
    t.equal(decode.status?.code ?? 0, 0);
    t.same(decode.values['gen_ai.response.finish_reasons'], ['deadline']);
  }
});

void t.test('when the engine exits, its running sequences have failed spans', async (t) => {
  const server = await traced(t, says('one two three four', { pace: 30 }));
  const response = await server.post('/v1/completions', { prompt: 'Hi', stream: true });
  server.engine.die();
  server.engine.die();
  await response.text();
  const spans = await server.spans();
  t.equal(spans.length, 3, 'one set, without prefill: only the engine knew its start');
  const decode = named(spans, 'decode');
  t.match(decode, { status: { code: 2, message: 'engine_lost' } });
  t.equal(named(spans, 'queue').endTimeUnixNano, decode.startTimeUnixNano);
});
