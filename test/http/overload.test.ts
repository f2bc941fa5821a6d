/** Bounds between clients, as they see them over HTTP. */
import { once } from 'node:events';
import { connect } from 'node:net';
import t from 'tap';
import { networkOf } from '../../src/gateway/http/forwarded.js';
import { build } from '../fakes/server.js';

void t.test('a request without room in the engine gets a 429, and the engine none of its choices', async (t) => {
  const server = await build(t);
  server.engine.room = 3;
  t.match(await server.ask('/v1/completions', { prompt: 'x', n: 4 }, { 'x-latency-budget-ms': '50' }), {
    status: 429,
    headers: { 'retry-after': '1' },
    body: { error: { code: 'queue_full', type: 'rate_limit_error' } },
  });
  t.same(server.engine.requests, []);
  t.equal((await server.ask('/v1/completions', { prompt: 'x', n: 3 })).status, 200);
  const { text: metrics } = await server.get('/metrics');
  t.match(metrics, /request_failure_total\{reason="queue_full"[^}]*\} 4\n/);
  t.match(metrics, /outcome="refused"[^}]*\} 4\n/);
});

void t.test('readiness falls while a new request would wait too long', async (t) => {
  let waitMs = 0;
  const server = await build(t, undefined, { options: { readyWait: 10 } });
  Object.defineProperty(server.context.api.metrics, 'waitMs', { get: () => waitMs });
  const ready = async () => (await server.get('/health/ready')).status;
  t.equal(await ready(), 200);
  waitMs = 10_001;
  const error = { code: 'overloaded', message: /would wait 10 s: more than --ready-wait, 10 s/ };
  t.match(await server.get('/v2/health/ready'), { status: 503, body: { error } });
  waitMs = 0;
  server.engine.unreadMs = 11_000;
  t.equal(await ready(), 503, 'the engine does not read');
  server.engine.unreadMs = 0;
  t.equal(await ready(), 200);
});

void t.test('clients without a key are told apart by their network', async (t) => {
  const server = await build(t, undefined, { options: { trustedProxies: ['127.0.0.1'] } });
  for (const address of ['10.0.0.1', '10.0.0.2']) {
    await server.ask('/v1/completions', { prompt: 'x' }, { 'x-forwarded-for': address });
    t.equal(server.last().tenant, address);
  }
  for (const [address, network] of [
    ['2001:db8:0:1::5', '2001:db8:0:1'],
    ['2001:0DB8:0:1:ffff:1:2:3', '2001:db8:0:1'],
    ['::1', '0:0:0:0'],
    ['fe80::1%eth0', 'fe80:0:0:0'],
    ['::ffff:192.0.2.1', '192.0.2.1'],
    ['unknown', 'unknown'],
  ] as const)
    t.equal(networkOf(address), network);
});

void t.test('unfinished bodies of a client are bounded in sum, and free their bytes when they leave', async (t) => {
  const server = await build(t, undefined, { options: { maxBody: 4096, trustedProxies: ['127.0.0.1'] } });
  const begin = async (address: string) => {
    const socket = connect(server.port, '127.0.0.1');
    await once(socket, 'connect');
    const head = `POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: ${address}\r\n`;
    socket.write(`${head}Content-Type: application/json\r\nContent-Length: 4096\r\n\r\n{`);
    return socket;
  };
  const open = await Promise.all(Array.from({ length: 16 }, () => begin('10.0.0.1')));
  t.teardown(() => {
    for (const socket of open) socket.destroy();
  });
  const ask = (address: string) => server.ask('/v1/completions', { prompt: 'x' }, { 'x-forwarded-for': address });
  const refusedOr = async (status: number) => {
    for (let tries = 0; tries < 200 && (await ask('10.0.0.1')).status !== status; tries++) await ask('10.0.0.9');
    return ask('10.0.0.1');
  };
  const error = { code: 'overloaded', message: /65536 bytes are on their way/ };
  t.match(await refusedOr(503), { status: 503, headers: { 'retry-after': '1' }, body: { error } });
  t.equal((await ask('10.0.0.2')).status, 200, 'another client has room');
  open[0]?.destroy();
  t.equal((await refusedOr(200)).status, 200);
});
