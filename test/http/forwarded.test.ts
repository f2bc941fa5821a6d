/** Headers of a trusted proxy: the time before arrival, the client, its scheme and its trace. */
import t from 'tap';
import { traceIdOf, waitedMs } from '../../src/gateway/http/forwarded.js';
import { build, exchange, says, type Overrides } from '../fakes/server.js';
import { movedClock } from '../support/moved-clock.js';

const NOW = 1_800_000_000_000;
const TRACE = '0af7651916cd43dd8448eb211c80319c';
const loopback = { options: { trustedProxies: ['loopback'] } } as const;

void t.test('X-Request-Start: seconds, milliseconds or microseconds, within a minute of the own clock', async (t) => {
  const cases: [string, number][] = [
    ['t=1799999998.500', 1500],
    ['1799999998.5', 1500],
    [' t=1799999998 ', 2000],
    ['t=1799999998500', 1500],
    ['t=1799999998500000', 1500],
    ['t=1799999940', 60_000],
    ['t=1799999939.999', 0],
    ['t=1800000000.001', 0],
    ['t=1800000900', 0],
    ['t=-1', 0],
    ['t=0', 0],
    ['t=', 0],
    ['', 0],
    ['t=1799999998e0', 0],
    ['t=1799999998, t=1799999999', 0],
    ['t=99999999999999999999999', 0],
    ['yesterday', 0],
  ];
  for (const [header, ms] of cases)
    await t.test(JSON.stringify(header), async (t) => {
      t.equal(Math.round(waitedMs(header, NOW) * 1000) / 1000, ms);
    });
  t.equal(waitedMs(undefined, NOW), 0);
  t.equal(waitedMs(['t=1799999998', 't=1799999999'], NOW), 0);
});

void t.test('a trace id by the rules of W3C', (t) => {
  t.equal(traceIdOf(`00-${TRACE}-b7ad6b7169203331-01`), TRACE);
  t.equal(traceIdOf(`01-${TRACE}-b7ad6b7169203331-01-more`), TRACE, 'a later version');
  for (const wrong of [
    undefined,
    '',
    `ff-${TRACE}-b7ad6b7169203331-01`,
    `00-${'0'.repeat(32)}-b7ad6b7169203331-01`,
    `00-${TRACE}-${'0'.repeat(16)}-01`,
    `00-${TRACE.toUpperCase()}-b7ad6b7169203331-01`,
    `00-${TRACE.slice(1)}-b7ad6b7169203331-01`,
  ])
    t.equal(traceIdOf(wrong), null, String(wrong));
  t.end();
});

/** Sends a request with these headers. @returns the answer, its report and the line of the log */
async function ask(t: Parameters<typeof build>[0], headers: () => Record<string, string>, overrides: Overrides = {}) {
  movedClock(t);
  const server = await build(t, says('one two'), { ...overrides, keepsLog: true });
  const { status, body } = await server.ask('/v1/completions', { prompt: 'Hello' }, headers());
  const [line = {}] = await server.logged();
  return { status, sortie: body.sortie as { actual_ms: number; met?: boolean }, line };
}

const headers = () => ({
  'x-request-start': `t=${(Date.now() / 1000 - 3).toFixed(3)}`,
  'x-forwarded-for': '203.0.113.9, 198.51.100.7',
  'x-forwarded-proto': 'https',
  traceparent: `00-${TRACE}-b7ad6b7169203331-01`,
  'x-latency-budget-ms': '2000',
});

void t.test('time before the arrival counts against the budget, and the log has the client', async (t) => {
  const { status, sortie, line } = await ask(t, headers, loopback);
  t.equal(status, 200);
  t.equal(sortie.actual_ms, 3000);
  t.equal(sortie.met, false);
  t.match(line, { client: '198.51.100.7', scheme: 'https', trace_id: TRACE });
  t.ok(Number(line.proxy_ms) >= 2990 && Number(line.ms) < Number(line.proxy_ms), 'ms is the time here alone');
});

void t.test('the address before trusted proxies is the client', async (t) => {
  const { line } = await ask(t, headers, { options: { trustedProxies: ['127.0.0.0/8', '198.51.100.0/24'] } });
  t.match(line, { client: '203.0.113.9' });
});

void t.test('the same headers of any other address are ignored', async (t) => {
  for (const trustedProxies of [[], ['10.0.0.0/8', '203.0.113.9']]) {
    const { sortie, line } = await ask(t, headers, { options: { trustedProxies } });
    t.equal(sortie.actual_ms, 0);
    t.equal(sortie.met, true);
    t.match(line, { client: '127.0.0.1' });
    for (const name of ['scheme', 'proxy_ms', 'trace_id']) t.notOk(name in line, name);
  }
});

void t.test('a request whose path is unreadable is logged with its client', async (t) => {
  const server = await build(t, undefined, { ...loopback, keepsLog: true });
  const start = 'GET /%zz HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Forwarded-For: 203.0.113.9\r\n\r\n';
  t.match(await exchange(server.port, start), /^HTTP\/1\.1 400/);
  t.match(await server.logged(), [{ client: '203.0.113.9' }]);
});

void t.test("Envoy's time-out counts from the arrival here, and a budget from the arrival at the proxy", async (t) => {
  movedClock(t);
  const server = await build(t, says('one two'), loopback);
  const totalMs = async (more: Record<string, string>): Promise<number | null | undefined> => {
    await server.ask('/v1/completions', { prompt: 'Hello' }, { ...headers(), ...more });
    return server.last().depth.budget?.totalMs;
  };
  // The request waited for 3 s.
  const byEnvoy = (await totalMs({ 'x-latency-budget-ms': '9000', 'x-envoy-expected-rq-timeout-ms': '1500' })) ?? NaN;
  t.equal(byEnvoy, 4425);
  t.equal(await totalMs({ 'x-latency-budget-ms': '4000', 'x-envoy-expected-rq-timeout-ms': '1500' }), 4000);
});
