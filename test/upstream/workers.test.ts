/** `serve --no-local` in two worker processes: what they share, and what outlives one of them. */
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { type IncomingMessage, request } from 'node:http';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import type { Test } from 'tap';
import t from 'tap';
import { childrenOf } from '../../bench/processes.js';
import { main, metric, printed, readyUrl, start, stopped } from '../deploy/helper.js';
import { answers, begin, finish, say, scriptedUpstream, type UpstreamScript } from '../fakes/upstream.js';
import { until } from '../support/until.js';

const COUNTED = 'http_requests_total\\{method="POST",route="/v1/chat/completions",status="200",.*\\}';

async function startWorkers(t: Test, script: UpstreamScript, limits: object = {}) {
  const there = await scriptedUpstream(t, script);
  const dir = t.testdir({ 'keys.json': JSON.stringify({ keys: [{ key: 'sesame', limits }, { key: 'open' }] }) });
  const upstream = ['--upstream', there.url.href, '--upstream-model', 'big'];
  const flags = [main, 'serve', '--host', '127.0.0.1', '--no-local', '--threads', '2', ...upstream];
  const server = start(t, process.execPath, [...flags, '--port', '0', '--api-key-file', join(dir, 'keys.json')]);
  const log = printed(server);
  const url = await readyUrl(server);
  const { pid = NaN } = server;
  await until('both workers', () => log().split('listening').length > 2);
  /** Asks by a connection of its own, which the workers take in turn. */
  const ask = async (key = 'sesame', body: object = {}): Promise<IncomingMessage> => {
    const headers = { 'content-type': 'application/json', authorization: `Bearer ${key}` };
    const asked = request(`${url}/v1/chat/completions`, { method: 'POST', agent: false, headers });
    asked.end(JSON.stringify({ model: 'big', messages: [], ...body }));
    const [response] = (await once(asked, 'response')) as [IncomingMessage];
    return response;
  };
  return { there, server, url, log, ask, flags, workers: () => childrenOf(pid), keyFile: join(dir, 'keys.json') };
}

void t.test('both take connections, and a key has its limits once', async (t) => {
  const limits = { requests_per_minute: 8, requests_in_flight: 3 };
  const { there, url, log, ask, keyFile, server, workers } = await startWorkers(t, begin, limits);
  const streams = [];
  for (let open = 0; open < 3; open++) streams.push(ask('sesame', { stream: true }));
  await until('three requests at the upstream', () => there.exchanges.length === 3);
  const fourth = await ask();
  t.equal(fourth.statusCode, 429);
  t.match(await text(fourth), 'may have 3 requests in flight');
  for (const exchange of there.exchanges) finish(exchange);
  for (const stream of streams) await text(await stream);
  there.script = answers('Yes.');
  const rest = [];
  for (let sent = 0; sent < 8; sent++) {
    const response = await ask('sesame', { stream: true });
    rest.push(response.statusCode);
    await text(response);
  }
  t.same(rest, [200, 200, 200, 200, 200, 429, 429, 429]);
  t.equal(await metric(url, COUNTED), 8);
  t.equal(await metric(url, 'key_limited_total'), 4);
  const served = new Set([...log().matchAll(/"pid":(\d+),"reqId"/g)].map(([, pid]) => pid));
  t.same(served, new Set(workers().map(String)));
  writeFileSync(keyFile, JSON.stringify({ keys: [{ key: 'other' }] }));
  server.kill('SIGHUP');
  await until('new keys in both', () => log().split('API keys read again').length > 2);
  for (const key of ['sesame', 'sesame']) t.equal((await ask(key)).statusCode, 401);
});

void t.test('a dead worker is replaced, and its counts and requests in flight end right', async (t) => {
  const { there, url, log, ask, workers } = await startWorkers(t, begin, { requests_in_flight: 1 });
  const broken = ask('sesame', { stream: true });
  broken.catch(() => undefined);
  await until('a request at the upstream', () => there.exchanges.length === 1);
  t.equal((await ask()).statusCode, 429);
  there.script = answers('Yes.');
  for (let sent = 0; sent < 4; sent++) await text(await ask('open', { stream: true }));
  t.equal(await metric(url, COUNTED), 4);
  const before = workers();
  const holder = Number(/"pid":(\d+)[^\n]*"status":429/.exec(log())?.[1]);
  const dead = before.find((pid) => pid !== holder) ?? NaN;
  process.kill(dead, 'SIGKILL');
  await until('another worker', () => log().split('listening').length > 3);
  t.match(log(), `"worker":${dead},"code":null,"signal":"SIGKILL"`);
  t.not(workers(), before);
  await t.rejects(broken);
  t.ok((await metric(url, COUNTED)) >= 4, 'counters do not fall');
  for (let sent = 0; sent < 2; sent++) await until('a free place', async () => (await ask()).statusCode === 200);
});

void t.test('a fault of the start shows once, and running answers end on SIGTERM', async (t) => {
  const { server, there, url, ask, flags } = await startWorkers(t, begin);
  const second = start(t, process.execPath, [...flags, '--port', new URL(url).port]);
  t.match(await once(second, 'exit'), [1, null], 'its port is in use');
  const streams = [ask('open', { stream: true }), ask('open', { stream: true })];
  await until('two requests at the upstream', () => there.exchanges.length === 2);
  const code = stopped(server);
  for (const exchange of there.exchanges) {
    await say(exchange, 'All is well.');
    finish(exchange);
  }
  for (const stream of streams) t.match(await text(await stream), /well\..*\n\n(.*\n\n)?data: \[DONE\]\n\n$/);
  t.equal(await code, 0);
});
