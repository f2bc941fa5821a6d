/** Rules that hold for all APIs: limits, log, metrics, traces, failures, disconnects, drain. */
import { setTimeout as delay } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { drain } from '../../src/gateway/http/shutdown.js';
import { openKey } from '../../src/gateway/http/keys.js';
import { build, says, type TestServer } from '../fakes/server.js';
import { until } from '../support/until.js';

const SECRET = 'a secret question';
const ANSWER = 'a hidden answer';
const messages = [{ role: 'user', content: SECRET }];

/** A body for each path, the field of its length, and the end of a stream that fails with this code. */
const WIRES = [
  {
    ...{ path: '/v1/completions', body: { prompt: SECRET }, limit: 'max_tokens' },
    failed: (code: string) =>
      new RegExp(`"error":{[^}]*"type":"unavailable_error"[^}]*"code":"${code}".*\\[DONE\\]\n\n$`, 's'),
  },
  {
    ...{ path: '/v1/chat/completions', body: { messages, n: 2 }, limit: 'max_tokens' },
    failed: (code: string) =>
      new RegExp(`"error":{[^}]*"type":"unavailable_error"[^}]*"code":"${code}".*\\[DONE\\]\n\n$`, 's'),
  },
  {
    ...{ path: '/v1/responses', body: { input: SECRET }, limit: 'max_output_tokens' },
    failed: (code: string) =>
      new RegExp(
        `event: error\ndata: {"type":"error"[^\n]*"code":"${code}"[^\n]*\n\n` +
          `event: response.failed\n[^\n]*"status":"failed"[^\n]*"error":{"code":"${code}"[^\n]*"status":"incomplete"[^\n]*\n\n$`,
      ),
  },
  {
    ...{ path: '/v1/messages', body: { messages }, limit: 'max_tokens' },
    failed: (code: string) =>
      new RegExp(
        `event: error\ndata: {"type":"error"[^\n]*"type":"overloaded_error"[^\n]*"code":"${code}"[^\n]*"request_id":"[^\n]*\n\n$`,
      ),
  },
];

for (const { path, body: fields, limit, failed } of WIRES) {
  const body = { ...fields, [limit]: 30 };
  const count = 'n' in fields ? fields.n : 1;

  void t.test(`${path}: a key's limits reject, and headers report them`, async (t) => {
    const key = openKey('sesame');
    const limits = { requestsPerMinute: 2 * count, tokensPerMinute: 150, requestsInFlight: null };
    const server = await build(t, says(ANSWER), { apiKeys: [{ ...key, limits }] });
    const authorization = { authorization: 'Bearer sesame' };
    t.equal((await server.ask(path, body)).status, 401);
    const left = { 'x-ratelimit-remaining-requests': String(count), 'x-ratelimit-limit-tokens': '150' };
    t.match((await server.ask(path, body, authorization)).headers, left);
    const greedy = await server.ask(path, { ...body, [limit]: 180 }, authorization);
    t.match(greedy, { status: 400, body: { error: { param: limit } } });
    const second = await server.ask(path, body, authorization);
    t.match(second, { status: 429, body: { error: { type: 'rate_limit_error', code: 'rate_limit_exceeded' } } });
    t.ok(Number(second.headers['retry-after']) > 0);
  });

  void t.test(`${path}: one log line with plan, times and counts and without any text, and one count`, async (t) => {
    for (const stream of [false, true]) {
      const server = await build(t, says(ANSWER), { keepsLog: true });
      await server.ask(path, { ...body, stream }, { 'x-request-id': 'r2' });
      const lines = await server.logged();
      // The simulator reads its trace from these lines.
      const counts = { prompt_tokens: server.last().prompt.length, completion_tokens: 3 * count };
      const plan = { exit_layer: 30, predicted_ttft_ms: 1.5 };
      const sortie = { plan, actual_ms: Number, ttft_ms: Number, queue_ms: Number };
      const line = { reqId: 'r2', route: path, status: 200, ms: Number, model: 'fake', ...counts, sortie };
      t.match(lines, { length: 1, 0: line });
      t.notMatch(JSON.stringify(lines), /secret|hidden/);
      const { text } = await server.get('/metrics');
      t.match(text, `sortie_http_requests_total{method="POST",route="${path}",status="200"`);
      t.match(text, new RegExp(`^sortie_generation_tokens_total\\{.*\\} ${3 * count}$`, 'm'));
      t.equal(server.context.api.metrics.live, 0);
    }
  });

  void t.test(`${path}: a failure after the first token ends the stream, and the log has its reason`, async (t) => {
    const server = await build(t, says('one two three', { loseAfter: 2 }), { keepsLog: true });
    const { text } = await server.ask(path, { ...body, stream: true });
    t.match(text, failed('engine_lost'));
    t.notMatch(text, /message_stop|response\.completed/);
    t.match(await server.logged(), [{ status: 200, code: 'engine_lost' }]);
    const whole = { status: 502, headers: { 'retry-after': '2' } };
    t.match(await server.ask(path, body), whole);
  });

  void t.test(`${path}: a client that disconnects cancels its sequences, streamed or not`, async (t) => {
    const server = await build(t, says('one two three four five six seven eight nine ten', { pace: 20 }));
    await checkDisconnects(t, server, path, body, count);
    await until('idle', () => server.context.api.metrics.live === 0);
  });

  void t.test(`${path}: budgets and depth bounds apply, and a rejected budget states the least one`, async (t) => {
    const server = await build(t, says(ANSWER));
    const headers = { 'x-latency-budget-ms': '400', 'x-exit-layer': '15', 'x-budget-on-miss': 'truncate' };
    const answer = await server.ask(path, body, headers);
    t.match(answer, { headers: { 'x-exit-layer': '15' }, body: { sortie: { budget_ms: 400 } } });
    t.match(server.last().depth, { maxExit: 15, budget: { totalMs: 400, onMiss: 'truncate' } });
    const error = { param: 'X-Exit-Layer', exits: [10, 15, 20, 25, 30] };
    t.match(await server.ask(path, body, { 'x-exit-layer': '16' }), { status: 400, body: { error } });
    server.engine.script = () => ({ tokens: [], reject: { reason: 'budget_infeasible', leastFeasibleMs: 99.5 } });
    const least = { code: 'budget_infeasible', least_feasible_budget_ms: 100 };
    t.match(await server.ask(path, { ...body, stream: true }, headers), { status: 503, body: { error: least } });
  });

  void t.test(`${path}: at the deadline of a drain a stream ends with an error`, async (t) => {
    const server = await build(t, says('one two three four five six', { pace: 100 }));
    const stream = server.post(path, { ...body, stream: true });
    await until('running', () => server.engine.live === count);
    const response = await stream;
    t.equal(await drain(server.app, server.context, 50), false);
    t.match(await response.text(), failed('draining'));
  });
}

// Clients that disconnect in the middle of an answer.

/** Disconnects from a stream and from a whole answer: each cancels its sequences. @param count sequences of a request */
async function checkDisconnects(t: Test, server: TestServer, path: string, body: object, count: number): Promise<void> {
  for (const stream of [true, false]) {
    const abort = new AbortController();
    const headers = { 'content-type': 'application/json' };
    const options = { method: 'POST', headers, body: JSON.stringify({ ...body, stream }), signal: abort.signal };
    fetch(server.url + path, options).catch(() => undefined);
    const before = server.engine.cancelled.length;
    await until('running', () => server.engine.live === count);
    await delay(30);
    abort.abort();
    await until('idle', () => server.engine.live === 0);
    t.equal(server.engine.cancelled.length, before + count, `stream ${stream}`);
  }
  await until('responses end', () => server.app.inFlightResponses.size === 0);
}
