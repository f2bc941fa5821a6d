/** Envoy with the file of deploy/ before two replicas: streams, times, deadlines, a stopped replica, a full queue. */
import http from 'node:http';
import { once } from 'node:events';
import { networkInterfaces } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { childrenOf } from '../../bench/processes.js';
import { missing, tinyModel } from './helper.js';
import { until } from '../support/until.js';
import type { Replica } from './pool.js';
import { inFlight, isHealthy, type Pool, post, startBefore, startPool, startReplicas } from './pool.js';

const skip = missing('envoy');
const model = skip === false ? tinyModel(t.testdir({}), 131_072) : '';
// A quiet machine needs 26 s for an answer of this length; a test has 5 s of work.
const long = { prompt: 'Count: one, two,', max_tokens: 120_000, ignore_eos: true };

interface Answer {
  readonly sortie: { readonly budget_ms?: number; readonly actual_ms: number };
}

/** Sends headers, waits, and sends the body. @returns the answer */
async function sendSlowly(url: string, headers: Record<string, string>, waitMs: number): Promise<Answer> {
  const body = JSON.stringify({ prompt: 'Hello', max_tokens: 1 });
  const all = { 'content-type': 'application/json', 'content-length': String(body.length), ...headers };
  const request = http.request(`${url}/v1/completions`, { method: 'POST', headers: all });
  request.flushHeaders();
  await sleep(waitMs);
  request.end(body);
  const [response] = (await once(request, 'response')) as [http.IncomingMessage];
  let text = '';
  for await (const data of response) text += String(data);
  return JSON.parse(text) as Answer;
}

function signal({ pid }: Replica, name: 'SIGSTOP' | 'SIGCONT'): void {
  for (const each of [pid, ...childrenOf(pid)]) process.kill(each, name);
}

async function leavesStopped(t: Test, pool: Pool): Promise<void> {
  const [, b] = pool.replicas;
  signal(b, 'SIGSTOP');
  t.teardown(() => {
    signal(b, 'SIGCONT');
  });
  const headers = { 'x-latency-budget-ms': '3000', 'x-budget-on-miss': 'truncate' };
  // By sessions, both replicas get requests whatever their load.
  const ask = async (_: unknown, i: number): Promise<number> => {
    const own = { ...headers, 'x-session-id': `session ${i}` };
    const response = await post(pool.url, { ...long, max_tokens: 20 }, own);
    await response.text();
    return response.status;
  };
  const start = performance.now();
  // They come before the next check fails.
  const first = await Promise.all(Array.from({ length: 8 }, ask));
  const ms = performance.now() - start;
  t.ok(first.includes(504) && first.every((status) => status === 200 || status === 504), first.join(' '));
  t.ok(ms > 7500 && ms < 12_500, `${ms} ms: the time-out is the budget and 5 s`);
  t.same(await Promise.all(Array.from({ length: 8 }, ask)), new Array(8).fill(200), 'it is out');
  signal(b, 'SIGCONT');
  await until('back', () => isHealthy(pool, b));
}

t.setTimeout(240_000);
void t.test('Envoy', { skip }, async (t) => {
  const options = ['--max-running', '8', '--keep-alive', '2'];
  const replicas = await startReplicas(t, model, options);
  const pool = await startBefore(t, replicas);
  const { url } = pool;
  await t.test('the id of the client passes', async (t) => {
    const response = await post(pool.url, { prompt: 'Hello', max_tokens: 1 }, { 'x-request-id': 'own' });
    await response.text();
    t.equal(response.headers.get('x-request-id'), 'own');
    t.notOk(response.headers.has('x-envoy-expected-rq-timeout-ms'));
  });
  await t.test('a stream passes token by token, and a client that leaves cancels it', async (t) => {
    const leave = new AbortController();
    const response = await post(url, { ...long, stream: true }, {}, leave.signal);
    t.match(response.headers.get('content-type'), 'text/event-stream');
    const reader = response.body?.getReader();
    await reader?.read();
    t.equal(await inFlight(pool), 1, 'the answer has just begun');
    leave.abort();
    await until('cancelled', async () => (await inFlight(pool)) === 0);
  });

  await t.test('time in the proxy counts, and a made-up time does not', async (t) => {
    const slow = await sendSlowly(url, {}, 600);
    t.ok(slow.sortie.actual_ms >= 550, `${slow.sortie.actual_ms} ms with a body that is late by 600 ms`);
    const forged = { 'x-request-start': `t=${Date.now() / 1000 - 30}`, 'x-forwarded-for': '203.0.113.5' };
    const quick = await sendSlowly(url, forged, 0);
    t.ok(quick.sortie.actual_ms < 20_000, `${quick.sortie.actual_ms} ms`);
    const logged = () => replicas.flatMap((replica) => replica.requests());
    // For a client on loopback Envoy states its own address.
    const own = Object.values(networkInterfaces()).flatMap((each = []) => each.map(({ address }) => address));
    const isClient = (address: unknown): boolean => address !== '127.0.0.1' && own.includes(String(address));
    await until('logged', async () => logged().some(({ client }) => isClient(client)));
    const lines = logged();
    t.ok(lines.every(({ scheme }) => scheme === 'http'));
    t.ok(lines.every(({ proxy_ms: ms }) => ms === undefined || Number(ms) < 20_000));
  });

  await t.test('a stopped replica costs a time-out after the budget, and is left', (t) => leavesStopped(t, pool));

  await t.test("the earlier of Envoy's time-out and the client's budget is the deadline", async (t) => {
    const { url } = await startBefore(t, replicas, (text) => text.replaceAll('timeout: 0s', 'timeout: 6s'));
    const ask = async (headers: Record<string, string>): Promise<Answer> =>
      (await (await post(url, { ...long, sortie: { budget_on_miss: 'truncate' } }, headers)).json()) as Answer;
    const both = await Promise.all([{}, { 'x-latency-budget-ms': '60000' }].map(ask));
    for (const { sortie } of both) {
      t.ok(
        sortie.budget_ms !== undefined && sortie.budget_ms > 5000 && sortie.budget_ms < 6500,
        `${sortie.budget_ms} ms`,
      );
      t.ok(sortie.actual_ms < 6100, `${sortie.actual_ms} ms: the answer ends before Envoy would cut it`);
    }
    t.equal((await ask({ 'x-latency-budget-ms': '700' })).sortie.budget_ms, 700);
  });
});

void t.test('a full queue sends the request to the other replica, two give the client a 429', { skip }, async (t) => {
  const pool = await startPool(t, model, ['--max-running', '1', '--max-queue', '0']);
  const leave = new AbortController();
  // A response that nothing refers to may be collected as garbage, which cancels its request.
  const held: Response[] = [];
  const occupy = async ({ url }: Replica): Promise<void> => {
    held.push(await post(url, { ...long, stream: true }, {}, leave.signal));
  };
  await occupy(pool.replicas[0]);
  const statuses: number[] = [];
  for (let i = 0; i < 4; i++) {
    const answer = await post(pool.url, { prompt: 'Hello', max_tokens: 1 });
    statuses.push(answer.status);
    await answer.text();
    // A replica frees the place of an answer behind the answer's last byte.
    await until('the free replica is idle', async () => (await inFlight(pool)) <= 1);
  }
  t.same(statuses, [200, 200, 200, 200]);
  await occupy(pool.replicas[1]);
  const rejected = await post(pool.url, { prompt: 'Hello', max_tokens: 1 });
  t.equal(rejected.status, 429);
  t.equal(rejected.headers.get('retry-after'), '1');
  t.match(await rejected.json(), { error: { code: 'queue_full' } });
  const found = held.map(({ status }) => status);
  t.same(found, [200, 200]);
  leave.abort();
});
