/** Bounds between clients, as they see them over HTTP. */
import t from 'tap';
import { networkOf } from '../../src/gateway/http/forwarded.js';
import { build } from '../fakes/server.js';

void t.test('a request without room in the engine gets a 429, and the engine none of its choices', async (t) => {
  const server = await build(t);
  server.engine.room = 3;
  const rejected = await server.post('/v1/completions', { prompt: 'x', n: 4 }, { 'x-latency-budget-ms': '50' });
  t.equal(rejected.status, 429);
  t.equal(rejected.headers.get('retry-after'), '1');
  t.match(await rejected.json(), { error: { code: 'queue_full', type: 'rate_limit_error' } });
  t.same(server.engine.requests, []);
  t.equal((await server.post('/v1/completions', { prompt: 'x', n: 3 })).status, 200);
  const metrics = await (await fetch(`${server.url}/metrics`)).text();
  t.match(metrics, /request_failure_total\{reason="queue_full"[^}]*\} 4\n/);
  t.match(metrics, /outcome="refused"[^}]*\} 4\n/);
});

void t.test('readiness falls while a new request would wait too long', async (t) => {
  let waitMs = 0;
  const server = await build(t, undefined, { options: { readyWait: 10 } });
  Object.defineProperty(server.context.api.metrics, 'waitMs', { get: () => waitMs });
  const ready = async () => (await fetch(`${server.url}/health/ready`)).status;
  t.equal(await ready(), 200);
  waitMs = 10_001;
  const rejected = await fetch(`${server.url}/v2/health/ready`);
  t.equal(rejected.status, 503);
  t.match(await rejected.json(), {
    error: { code: 'overloaded', message: /would wait 10 s: more than --ready-wait, 10 s/ },
  });
  waitMs = 0;
  server.engine.unreadMs = 11_000;
  t.equal(await ready(), 503, 'the engine does not read');
  server.engine.unreadMs = 0;
  t.equal(await ready(), 200);
});

void t.test('clients without a key are told apart by their network', async (t) => {
  const server = await build(t, undefined, { options: { trustedProxies: ['127.0.0.1'] } });
  const tenantOf = async (address: string) => {
    await server.post('/v1/completions', { prompt: 'x' }, { 'x-forwarded-for': address });
    return server.engine.requests.at(-1)?.tenant;
  };
  t.equal(await tenantOf('10.0.0.1'), '10.0.0.1');
  t.not(await tenantOf('10.0.0.2'), '10.0.0.1');
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
