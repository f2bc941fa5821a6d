/** Requests through Envoy: streams, times, cancelled answers, repeated requests. */
import http from 'node:http';
import { once } from 'node:events';
import { networkInterfaces } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { missing, tinyModel } from './helper.js';
import { inFlight, post, type Replica, startPool } from './pool.js';
import { until } from '../support/until.js';

const model = tinyModel(t.testdir({}), 131_072);
// A quiet machine needs 26 s for an answer of this length; a test has 5 s of work.
const long = { prompt: 'Count: one, two,', max_tokens: 120_000, ignore_eos: true };

interface Answer {
  readonly sortie: { readonly actual_ms: number };
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

const skip = missing('envoy');
void t.test('streams and times', { skip }, async (t) => {
  const pool = await startPool(t, model);
  const { url, replicas } = pool;

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
