/** Connections that end early, stall, or meet a shutdown. */
import { once } from 'node:events';
import net from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import t from 'tap';
import { drain } from '../../src/gateway/http/shutdown.js';
import { checkDisconnects } from './disconnect.js';
import { build, events, exchange, says } from '../fakes/server.js';
import { until } from '../support/until.js';

const long = says('one two three four five six seven eight nine ten', { pace: 20 });
const messages = [{ role: 'user', content: 'Count' }];

void t.test('a client that disconnects cancels its sequences, streamed or not', async (t) => {
  const server = await build(t, long);
  await checkDisconnects(t, server, '/v1/chat/completions', { messages, n: 2 }, 2);
  await until('idle', () => server.context.api.metrics.live === 0);
  t.equal(server.context.api.metrics.live, 0);
});

/** The lines of a log with this message. */
function linesOf(log: readonly string[], text: string): Record<string, unknown>[] {
  return log.map((line) => JSON.parse(line) as Record<string, unknown>).filter(({ msg }) => msg === text);
}

void t.test('a request whose client disconnects has its log line and its count, with any status', async (t) => {
  const log: string[] = [];
  const server = await build(t, long, { log: (line) => log.push(line) });
  const leave = async (body: object): Promise<void> => {
    const abort = new AbortController();
    const { signal } = abort;
    const headers = { 'content-type': 'application/json' };
    const options = { method: 'POST', headers, body: JSON.stringify({ messages, ...body }), signal };
    const response = fetch(`${server.url}/v1/chat/completions`, options);
    response.catch(() => undefined);
    await until('running', () => server.engine.live === 1);
    await delay(50);
    const before = log.length;
    abort.abort();
    await until('logged', () => log.length > before);
  };
  await leave({ stream: true });
  await leave({ user: 'u1' });
  await (await server.post('/v1/chat/completions', { messages })).text();
  await until('logged', () => log.length > 2);
  const lines = linesOf(log, 'request');
  t.equal(lines.length, 3);
  const route = '/v1/chat/completions';
  const tokens = { model: 'fake', prompt_tokens: server.engine.requests[0]?.prompt.length };
  t.match(lines, [
    { method: 'POST', route, status: 200, ms: Number, cancelled: true, ...tokens },
    { method: 'POST', route, status: 499, ms: Number, cancelled: true, user: 'u1', ...tokens },
    { method: 'POST', route, status: 200, ms: Number, sortie: {} },
  ]);
  const counts = lines.map(({ completion_tokens: count }) => Number(count));
  const [streamed = 0, whole = 0] = counts;
  t.ok(streamed > 0 && streamed < 10 && whole > 0 && whole < 10, `the tokens before it left: ${counts.join()}`);
  t.equal(counts[2], 10);
  t.notOk('cancelled' in (lines[2] ?? {}));
  const text = await (await fetch(`${server.url}/metrics`)).text();
  for (const count of ['status="200",model_name="fake"} 2', 'status="499",model_name="fake"} 1']) {
    t.match(text, `sortie_http_requests_total{method="POST",route="${route}",${count}`);
  }
});

void t.test('a request rejected before its route has its log line, too', async (t) => {
  const log: string[] = [];
  const server = await build(t, undefined, { options: { host: '127.0.0.1' }, log: (line) => log.push(line) });
  await exchange(server.port, 'GET /version HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n');
  await until('logged', () => linesOf(log, 'request').length > 0);
  t.match(linesOf(log, 'request'), [{ route: '/version', status: 421 }]);
});

void t.test('a finished answer is not cancelled', async (t) => {
  const server = await build(t);
  await (await server.post('/v1/chat/completions', { messages, stream: true })).text();
  await (await server.post('/v1/chat/completions', { messages })).text();
  await delay(30);
  t.equal(server.engine.cancelled.length, 0);
});

void t.test('a client that never reads is cut after the stall time-out', async (t) => {
  const ids = Array.from({ length: 200 }, () => 5);
  const log: string[] = [];
  const options = { options: { stallTimeout: 0.2 }, log: (line: string) => log.push(line) };
  const server = await build(t, () => ({ tokens: ids }), options);
  // Large log-probabilities fill the kernel's buffers. Pipelined responses wait behind the first one.
  const body = JSON.stringify({ messages, stream: true, n: 8, logprobs: true, top_logprobs: 20, max_tokens: 200 });
  const socket = net.connect(server.port, '127.0.0.1');
  socket.pause();
  socket.on('error', () => undefined);
  for (let i = 0; i < 4; i++) {
    const length = Buffer.byteLength(body);
    socket.write(
      `POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: ${length}\r\n\r\n${body}`,
    );
  }
  await until('asked', () => server.engine.requests.length > 0);
  await until('responses end', () => server.app.inFlightResponses.size === 0);
  t.equal(server.app.inFlightResponses.size, 0);
  t.equal(server.engine.live, 0);
  const [cut, ...others] = linesOf(log, 'the client does not read; cutting its connection');
  t.match(cut, { level: 40, unsent: Number });
  t.same(others, [], 'one warning for the connection');
  const lines = linesOf(log, 'request');
  t.equal(lines.length, server.engine.requests.length / 8, 'one line for each request');
  t.equal(lines.find(({ cancelled }) => cancelled === true)?.reqId, cut?.reqId);
  socket.destroy();
});

void t.test('half a request gets a 408 after the request time-out', async (t) => {
  const server = await build(t, undefined, { options: { requestTimeout: 0.3 } });
  const answer = await exchange(server.port, 'POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Le');
  t.match(answer, /^HTTP\/1\.1 408 /);
});

void t.test('a closing server does not wait for connections that have sent nothing', async (t) => {
  const server = await build(t);
  const silent = net.connect(server.port, '127.0.0.1');
  silent.on('error', () => undefined);
  t.teardown(() => silent.destroy());
  await once(server.app.server, 'connection');
  const closed = server.app.close().then(() => 'closed');
  t.equal(await Promise.race([closed, delay(60_000, 'open', { ref: false })]), 'closed');
});

/** Half a request, which opens a response. */
const HALF = 'POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{';

void t.test('a drain lets running answers finish, rejects new ones and closes idle connections', async (t) => {
  const server = await build(t, long);
  const idle = net.connect(server.port, '127.0.0.1');
  idle.on('error', () => undefined);
  const running = server.post('/v1/chat/completions', { messages, stream: true });
  await until('running', () => server.engine.live === 1);
  const drained = drain(server.app, server.context, 5000);
  for (const path of ['/health/ready', '/v1/models']) t.equal((await fetch(server.url + path)).status, 503, path);
  const rejected = await server.post('/v1/chat/completions', { messages });
  t.equal(rejected.status, 503);
  t.equal(rejected.headers.get('retry-after'), '5');
  t.equal(rejected.headers.get('connection'), 'close', 'the next request may reach another server');
  t.match(await rejected.json(), { error: { type: 'unavailable_error', code: 'draining' } });
  t.equal((await fetch(`${server.url}/health`)).status, 200, 'liveness stays up');
  t.match(await (await running).text(), /ten.*\[DONE\]\n\n$/s);
  t.equal(await drained, true);
  await t.rejects(fetch(`${server.url}/health`), 'the port is closed');
});

void t.test('a drain closes an idle kept-alive connection while an answer still runs', async (t) => {
  const server = await build(t, says('one two three', { pace: 60_000 }));
  const kept = net.connect(server.port, '127.0.0.1', () => kept.write('GET /health HTTP/1.1\r\nHost: x\r\n\r\n'));
  await once(kept, 'data');
  const running = server.post('/v1/chat/completions', { messages });
  await until('running', () => server.engine.live === 1);
  const drained = drain(server.app, server.context, 5000);
  await once(kept, 'close');
  t.equal(server.engine.live, 1);
  server.engine.cancelAll('cancelled');
  t.equal((await running).status, 503);
  t.equal(await drained, true);
});

void t.test('a drain waits for a request that has arrived in part', async (t) => {
  const server = await build(t);
  const half = net.connect(server.port, '127.0.0.1', () => half.write(HALF));
  half.on('error', () => undefined);
  await until('responses begin', () => server.app.inFlightResponses.size === 1);
  t.equal(await drain(server.app, server.context, 100), false);
});

void t.test('at the deadline of a drain each answer ends with an error that states the reason', async (t) => {
  const server = await build(t, says('one two three', { pace: 20_000 }));
  const streamed = await server.post('/v1/chat/completions', { messages, stream: true });
  const whole = server.post('/v1/chat/completions', { messages, n: 2 });
  const unread = net.connect(server.port, '127.0.0.1', () => unread.write(HALF));
  unread.on('error', () => undefined);
  await until('responses begin', () => server.engine.live === 3 && server.app.inFlightResponses.size === 3);
  t.equal(await drain(server.app, server.context, 100), false);
  const error = { type: 'unavailable_error', code: 'draining' };
  const data = await events(streamed);
  t.equal(data.at(-1), '[DONE]');
  t.match(JSON.parse(data.at(-2) ?? ''), { error });
  t.match(JSON.parse(data[0] ?? ''), { choices: [{ delta: { content: 'one' } }] });
  const rejected = await whole;
  t.equal(rejected.status, 503);
  t.equal(rejected.headers.get('retry-after'), '5');
  t.match(await rejected.json(), { error });
  await until('responses end', () => server.app.inFlightResponses.size === 0);
  t.equal(server.app.inFlightResponses.size, 0, 'open connections are cut');
});
