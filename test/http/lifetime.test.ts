/** Connections that end early, stall, or meet a shutdown. */
import { once } from 'node:events';
import net from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { drain } from '../../src/gateway/http/shutdown.js';
import { build, events, exchange, says, type TestServer } from '../fakes/server.js';
import { until } from '../support/until.js';

const PATH = '/v1/chat/completions';
const long = says('one two three four five six seven eight nine ten', { pace: 20 });
const messages = [{ role: 'user', content: 'Count' }];
const HEAD = `POST ${PATH} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n`;

/** A connection that sends these bytes. */
function connected(t: Test, { port }: TestServer, bytes = ''): net.Socket {
  const socket = net.connect(port, '127.0.0.1', () => socket.write(bytes));
  t.teardown(() => socket.destroy());
  return socket.on('error', () => undefined);
}

void t.test('a request whose client disconnects has its log line and its count, with any status', async (t) => {
  const server = await build(t, long, { keepsLog: true });
  const leave = async (body: object, lines: number): Promise<void> => {
    const abort = new AbortController();
    server.post(PATH, { messages, ...body }, {}, abort.signal).catch(() => undefined);
    await until('running', () => server.engine.live === 1);
    await delay(50);
    abort.abort();
    await server.logged(lines);
  };
  await leave({ stream: true }, 1);
  await leave({ user: 'u1' }, 2);
  await server.ask(PATH, { messages });
  const lines = await server.logged(3);
  const left = { method: 'POST', route: PATH, ms: Number, cancelled: true, model: 'fake' };
  const tokens = { prompt_tokens: server.last().prompt.length };
  t.match(lines, {
    ...{ length: 3, 0: { status: 200, ...left, ...tokens }, 1: { status: 499, user: 'u1', ...left, ...tokens } },
    2: { method: 'POST', route: PATH, status: 200, ms: Number, sortie: {}, cancelled: undefined },
  });
  const counts = lines.map(({ completion_tokens: count }) => Number(count));
  t.ok(
    counts.slice(0, 2).every((count) => count > 0 && count < 10),
    `the tokens before it left: ${counts.join()}`,
  );
  t.equal(counts[2], 10);
  const { text } = await server.get('/metrics');
  for (const count of ['status="200",model_name="fake"} 2', 'status="499",model_name="fake"} 1'])
    t.match(text, `sortie_http_requests_total{method="POST",route="${PATH}",${count}`);
});

void t.test('a client that never reads is cut after the stall time-out', async (t) => {
  const tokens = Array.from({ length: 200 }, () => 5);
  const server = await build(t, () => ({ tokens }), { options: { stallTimeout: 0.2 }, keepsLog: true });
  // Large log-probabilities fill the kernel's buffers. Pipelined responses wait behind the first one.
  const body = JSON.stringify({ messages, stream: true, n: 8, logprobs: true, top_logprobs: 20, max_tokens: 200 });
  connected(t, server, `${HEAD}Content-Length: ${body.length}\r\n\r\n${body}`.repeat(4)).pause();
  await until('asked', () => server.engine.requests.length > 0);
  await until('responses end', () => server.app.responses.size === 0);
  t.equal(server.engine.live, 0);
  const cut = await server.logged(1, 'the client does not read; cutting its connection');
  t.match(cut, { length: 1, 0: { level: 40, unsent: Number } }, 'one warning for the connection');
  const lines = await server.logged();
  t.equal(lines.length, server.engine.requests.length / 8, 'one line for each request');
  t.equal(lines.find(({ cancelled }) => cancelled === true)?.reqId, cut[0]?.reqId);
});

void t.test('half a request gets a 408 after the request time-out', async (t) => {
  const server = await build(t, undefined, { options: { requestTimeout: 0.3 } });
  const answer = await exchange(server.port, 'POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Le');
  t.match(answer, /^HTTP\/1\.1 408 /);
});

void t.test('a closing server does not wait for connections that have sent nothing', async (t) => {
  const server = await build(t);
  connected(t, server);
  await once(server.app.server, 'connection');
  const closed = server.app.close().then(() => 'closed');
  t.equal(await Promise.race([closed, delay(60_000, 'open', { ref: false })]), 'closed');
});

/** Half a request, which opens a response. */
const HALF = `${HEAD}Content-Length: 9\r\n\r\n{`;

void t.test('a drain lets running answers finish, rejects new ones and closes idle connections', async (t) => {
  const server = await build(t, long);
  connected(t, server);
  const running = server.ask(PATH, { messages, stream: true });
  await until('running', () => server.engine.live === 1);
  t.match((await server.get('/load')).body, { server_load: 1 });
  const drained = drain(server.app, server.context, 5000);
  for (const path of ['/health/ready', '/v1/models']) t.equal((await server.get(path)).status, 503, path);
  t.match(await server.ask(PATH, { messages }), {
    status: 503,
    // The next request may reach another server.
    headers: { 'retry-after': '5', connection: 'close' },
    body: { error: { type: 'unavailable_error', code: 'draining' } },
  });
  t.equal((await server.get('/health')).status, 200, 'liveness stays up');
  t.match((await running).text, /ten.*\[DONE\]\n\n$/s);
  t.equal(await drained, true);
  await t.rejects(fetch(`${server.url}/health`), 'the port is closed');
});

void t.test('a drain closes an idle kept-alive connection while an answer still runs', async (t) => {
  const server = await build(t, says('one two three', { pace: 60_000 }));
  const kept = connected(t, server, 'GET /health HTTP/1.1\r\nHost: x\r\n\r\n');
  await once(kept, 'data');
  const running = server.ask(PATH, { messages });
  await until('running', () => server.engine.live === 1);
  const drained = drain(server.app, server.context, 5000);
  await once(kept, 'close');
  t.equal(server.engine.live, 1);
  server.engine.cancelAll('cancelled');
  t.equal((await running).status, 503);
  t.equal(await drained, true);
});

void t.test('at the deadline of a drain each answer ends with an error that states the reason', async (t) => {
  const server = await build(t, says('one two three', { pace: 20_000 }));
  const streamed = await server.post(PATH, { messages, stream: true });
  const whole = server.ask(PATH, { messages, n: 2 });
  connected(t, server, HALF);
  await until('responses begin', () => server.engine.live === 3 && server.app.responses.size === 3);
  t.equal(await drain(server.app, server.context, 100), false);
  const error = { type: 'unavailable_error', code: 'draining' };
  const data = await events(streamed);
  t.match(JSON.parse(data.at(-2) ?? ''), { error });
  t.match(JSON.parse(data[0] ?? ''), { choices: [{ delta: { content: 'one' } }] });
  t.match(await whole, { status: 503, headers: { 'retry-after': '5' }, body: { error } });
  await until('open connections are cut', () => server.app.responses.size === 0);
});

void t.test('a half-closed connection counts as gone', async (t) => {
  const { port, engine } = await build(t, long);
  const body = JSON.stringify({ messages });
  const bytes = `${HEAD}Content-Length: ${body.length}\r\n\r\n${body}`;
  const socket = net.connect(port, '127.0.0.1', () => socket.write(bytes));
  await until('it is answered', () => engine.live === 1);
  socket.end();
  await once(socket, 'close');
  await until('the answer is cancelled', () => engine.live === 0);
  t.equal(engine.cancelled.length, 1);
});
