/** Rules of a chat that hold for responses and messages as well: limits, log, metrics, traces, disconnects, drain. */
import { pino } from 'pino';
import t from 'tap';
import { drain } from '../../src/gateway/http/shutdown.js';
import { openKey } from '../../src/gateway/http/keys.js';
import { startTracing } from '../../src/gateway/telemetry/tracing.js';
import { collect, valuesOf } from '../fakes/collector.js';
import { namedEvents } from '../fakes/named-events.js';
import { build, says } from '../fakes/server.js';
import { checkDisconnects } from './disconnect.js';
import { until } from '../support/until.js';

const SECRET = 'a secret question';
const ANSWER = 'a hidden answer';
const wires = [
  { path: '/v1/responses', body: { input: SECRET, max_output_tokens: 30 }, limit: 'max_output_tokens' },
  {
    path: '/v1/messages',
    body: { messages: [{ role: 'user', content: SECRET }], max_tokens: 30 },
    limit: 'max_tokens',
  },
] as const;
const long = says('one two three four five six seven eight nine ten', { pace: 20 });

for (const { path, body, limit } of wires) {
  void t.test(`${path}: a key's limits reject, and headers report them`, async (t) => {
    const key = openKey('sesame');
    const limits = { requestsPerMinute: 2, tokensPerMinute: 100, requestsInFlight: null };
    const server = await build(t, says(ANSWER), { apiKeys: [{ ...key, limits }] });
    const authorization = { authorization: 'Bearer sesame' };
    t.equal((await server.post(path, body)).status, 401);
    const first = await server.post(path, body, authorization);
    t.match(Object.fromEntries(first.headers), {
      'x-ratelimit-remaining-requests': '1',
      'x-ratelimit-limit-tokens': '100',
    });
    const greedy = await server.post(path, { ...body, [limit]: 150 }, authorization);
    t.equal(greedy.status, 400);
    t.match(await greedy.json(), { error: { param: limit } });
    const second = await server.post(path, body, authorization);
    t.equal(second.status, 429);
    t.match(await second.json(), { error: { type: 'rate_limit_error', code: 'rate_limit_exceeded' } });
    t.ok(Number(second.headers.get('retry-after')) > 0);
  });

  void t.test(`${path}: one log line without any text, and one count`, async (t) => {
    for (const stream of [false, true]) {
      const log: string[] = [];
      const server = await build(t, says(ANSWER), { log: (line) => log.push(line) });
      await (await server.post(path, { ...body, stream })).text();
      await until('logged', () => log.some((line) => line.includes('"msg":"request"')));
      const lines = log.filter((line) => line.includes('"msg":"request"'));
      t.equal(lines.length, 1);
      t.match(JSON.parse(lines[0] ?? ''), {
        route: path,
        status: 200,
        prompt_tokens: Number,
        completion_tokens: 3,
        sortie: { plan: { exit_layer: 30 } },
      });
      t.notMatch(log.join(''), /secret|hidden/);
      const metrics = await (await fetch(`${server.url}/metrics`)).text();
      t.match(metrics, `sortie_http_requests_total{method="POST",route="${path}",status="200"`);
      t.match(metrics, /^sortie_generation_tokens_total\{.*\} 3$/m);
      t.equal(server.context.api.metrics.live, 0);
    }
  });

  void t.test(`${path}: a failed stream has its reason in the log`, async (t) => {
    const log: string[] = [];
    const script = says('one two three', { loseAfter: 1 });
    const server = await build(t, script, { log: (line) => log.push(line) });
    await (await server.post(path, { ...body, stream: true })).text();
    await until('logged', () => log.some((line) => line.includes('engine_lost')));
    t.match(JSON.parse(log.find((line) => line.includes('engine_lost')) ?? ''), { status: 200, code: 'engine_lost' });
  });

  void t.test(`${path}: a span with the attributes of a chat and no text`, async (t) => {
    const collector = await collect(t);
    const before = { ...process.env };
    const variables = { OTEL_EXPORTER_OTLP_PROTOCOL: 'http/json', OTEL_EXPORTER_OTLP_ENDPOINT: collector.url };
    // The SDK reads the environment of the process.
    Object.assign(process.env, variables);
    const tracing = await startTracing(process.env, '1.2.3', pino({ level: 'silent' }));
    process.env = before;
    if (tracing === null) throw new Error('tracing is off');
    const server = await build(t, says(ANSWER), { tracing });
    await (await server.post(path, { ...body, stream: true })).text();
    await until('responses end', () => server.app.inFlightResponses.size === 0);
    await tracing.shutdown();
    const span = collector.spans().find(({ name }) => name === `POST ${path}`);
    t.match(valuesOf(span?.attributes ?? []), {
      'gen_ai.operation.name': 'chat',
      'gen_ai.request.max_tokens': 30,
      'gen_ai.usage.output_tokens': 3,
      'gen_ai.response.finish_reasons': ['stop'],
    });
    t.notMatch(JSON.stringify(collector.spans()), /secret|hidden/);
  });

  void t.test(`${path}: a client that disconnects cancels its sequence, streamed or not`, async (t) => {
    const server = await build(t, long);
    await checkDisconnects(t, server, path, body, 1);
  });

  void t.test(`${path}: budgets and depth bounds apply, and a rejected budget states the least one`, async (t) => {
    const server = await build(t, says(ANSWER));
    const headers = { 'x-latency-budget-ms': '400', 'x-exit-layer': '15', 'x-budget-on-miss': 'truncate' };
    const response = await server.post(path, body, headers);
    t.equal(response.headers.get('x-exit-layer'), '15');
    t.match(await response.json(), { sortie: { budget_ms: 400 } });
    const depth = { maxExit: 15, budget: { totalMs: 400, onMiss: 'truncate' } };
    t.match(server.engine.requests[0], { depth, kind: 'chat' });
    const wrong = await server.post(path, body, { 'x-exit-layer': '16' });
    t.equal(wrong.status, 400);
    t.match(await wrong.json(), { error: { param: 'X-Exit-Layer', exits: [10, 15, 20, 25, 30] } });
    const full = await build(t, () => ({ tokens: [], reject: { reason: 'budget_infeasible', leastFeasibleMs: 99.5 } }));
    const rejected = await full.post(path, { ...body, stream: true }, headers);
    t.equal(rejected.status, 503);
    t.match(await rejected.json(), { error: { code: 'budget_infeasible', least_feasible_budget_ms: 100 } });
  });

  void t.test(`${path}: at the deadline of a drain a stream ends with an error event`, async (t) => {
    const server = await build(t, says('one two three four five six', { pace: 100 }));
    const stream = server.post(path, { ...body, stream: true });
    await until('running', () => server.engine.live === 1);
    const response = await stream;
    t.equal(await drain(server.app, server.context, 50), false);
    const events = namedEvents(await response.text());
    t.match(events.find(({ name }) => name === 'error')?.data, { error: { code: 'draining' } });
  });
}
