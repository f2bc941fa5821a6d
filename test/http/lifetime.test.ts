/** Connections that end early, stall, or meet a shutdown. */
import net from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import t from 'tap';
import { drain } from '../../src/http/drain.js';
import { build, exchange, says } from '../fakes/server.js';

const long = says('one two three four five six seven eight nine ten', { pace: 20 });
const messages = [{ role: 'user', content: 'Count' }];

async function until(what: () => boolean): Promise<void> {
  for (let i = 0; i < 500 && !what(); i++) await delay(10);
}

void t.test('a client that leaves cancels its sequences, streamed or not', async (t) => {
  const server = await build(t, long);
  for (const stream of [true, false]) {
    const abort = new AbortController();
    const response = fetch(`${server.url}/v1/chat/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ messages, stream, n: 2 }),
      signal: abort.signal,
    });
    response.catch(() => undefined);
    const before = server.engine.cancelled.length;
    await until(() => server.engine.live === 2);
    await delay(30);
    abort.abort();
    await until(() => server.engine.live === 0);
    t.equal(server.engine.cancelled.length, before + 2, `stream ${stream}`);
  }
  await until(() => server.context.api.metrics.live === 0);
  t.equal(server.context.api.metrics.live, 0);
  t.equal(server.app.openResponses.size, 0);
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
  const options = { options: { stallTimeout: 0.2 } };
  const server = await build(t, () => ({ tokens: ids }), options);
  // Large log-probabilities fill the kernel's buffers, and pipelined answers wait behind the first.
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
  await until(() => server.engine.requests.length > 0);
  await until(() => server.app.openResponses.size === 0);
  t.equal(server.app.openResponses.size, 0);
  t.equal(server.engine.live, 0);
  socket.destroy();
});

void t.test('half a request is dropped after the request time-out', async (t) => {
  const server = await build(t, undefined, { options: { requestTimeout: 0.3 } });
  const answer = await exchange(server.port, 'POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Le');
  t.match(answer, /^HTTP\/1\.1 408 .*"request_timeout"/s);
});

void t.test('a drain lets running answers finish, refuses new ones and closes idle connections', async (t) => {
  const server = await build(t, long);
  const idle = net.connect(server.port, '127.0.0.1');
  idle.on('error', () => undefined);
  const running = server.post('/v1/chat/completions', { messages, stream: true });
  await until(() => server.engine.live === 1);
  server.context.draining = true;
  const drained = drain(server.app, () => server.context.api.metrics.live, 5000);
  for (const path of ['/health/ready', '/v1/models']) t.equal((await fetch(server.url + path)).status, 503, path);
  const refused = await server.post('/v1/chat/completions', { messages });
  t.equal(refused.status, 503);
  t.equal(refused.headers.get('retry-after'), '5');
  t.match(await refused.json(), { error: { type: 'unavailable_error', code: 'draining' } });
  t.equal((await fetch(`${server.url}/health`)).status, 200, 'liveness goes on');
  t.match(await (await running).text(), /ten.*\[DONE\]\n\n$/s);
  t.equal(await drained, true);
  await t.rejects(fetch(`${server.url}/health`), 'the port is closed');
});

void t.test('a drain that takes too long cuts', async (t) => {
  const server = await build(t, says('one two three', { pace: 2000 }));
  server.post('/v1/chat/completions', { messages, stream: true }).catch(() => undefined);
  await until(() => server.engine.live === 1);
  server.context.draining = true;
  t.equal(await drain(server.app, () => server.context.api.metrics.live, 100), false);
});
