/** The limits of a key: reported in OpenAI's headers, enforced with 429, returned if unused. */
import { once } from 'node:events';
import { connect } from 'node:net';
import { Readable } from 'node:stream';
import { setImmediate as nextTurn } from 'node:timers/promises';
import t from 'tap';
import { duration, TokenBucket } from '../../src/gateway/http/caller.js';
import { Turns } from '../../src/gateway/http/turns.js';
import { keyDigest, openKey, type ApiKey } from '../../src/gateway/http/keys.js';
import { READY } from '../fakes/engine.js';
import { build, says, tokenizer } from '../fakes/server.js';
import { movedClock } from '../support/moved-clock.js';
import { until } from '../support/until.js';
import { networkOf } from '../../src/gateway/http/forwarded.js';

type KeyFields = Omit<Partial<ApiKey>, 'limits' | 'policy'> & {
  readonly limits?: Partial<ApiKey['limits']>;
  readonly policy?: Partial<ApiKey['policy']>;
};

function key(text: string, { limits, policy, ...fields }: KeyFields): ApiKey {
  const open = openKey(text);
  return { ...open, ...fields, limits: { ...open.limits, ...limits }, policy: { ...open.policy, ...policy } };
}

const as = (text: string) => ({ authorization: `Bearer ${text}` });
const PATH = '/v1/completions';
const EXCEEDED = { type: 'rate_limit_error', code: 'rate_limit_exceeded', param: null };
const prompt = 'Hello';
const messages = [{ role: 'user', content: 'Hi' }];
const promptTokens = tokenizer.encode(prompt, true).length;

void t.test("durations have OpenAI's form", (t) => {
  const written = [0.2, 999, 1500, 1501, 59_990, 60_000, 90_500, 119_600, 360_000].map(duration);
  t.strictSame(written, ['1ms', '999ms', '1.5s', '1.51s', '59.99s', '1m0s', '1m31s', '2m0s', '6m0s']);
  t.end();
});

void t.test('a token bucket holds one minute, refills continuously and takes unused tokens back', (t) => {
  const bucket = new TokenBucket(60, 0);
  t.equal(bucket.waitMs(60, 0), 0);
  t.equal(bucket.waitMs(61, 0), Infinity, 'more than the bucket holds');
  bucket.take(60, 0);
  t.equal(bucket.waitMs(1, 0), 1000);
  t.equal(bucket.waitMs(1, 400), 600);
  t.equal(bucket.level(2000), 2);
  bucket.take(-10, 2000);
  t.equal(bucket.level(2000), 12);
  bucket.take(-1000, 2000);
  t.equal(bucket.level(2000), 60, 'never more than a minute');
  bucket.take(90, 2000);
  t.equal(bucket.waitMs(1, 2000), 31_000, 'a debt refills first');
  t.equal(bucket.level(1000), -30, 'a clock that steps back adds nothing');
  const full = new TokenBucket(60, 0);
  full.take(60, 60_000);
  t.equal(full.level(60_000), 0, 'a full bucket gains nothing');
  t.end();
});

void t.test('a key that is read again with another name or other limits goes on counting', async (t) => {
  const limits = { requestsPerMinute: 2, requestsInFlight: 2, tokensPerMinute: 1000 };
  const server = await build(t, says('one'), { apiKeys: [key('same', { limits })] });
  const ask = async () => (await server.ask(PATH, { prompt, max_tokens: 1 }, as('same'))).status;
  for (const status of [200, 200, 429]) t.equal(await ask(), status);
  server.context.apiKeys = [{ ...key('same', { limits }), name: 'renamed' }];
  t.equal(await ask(), 429, 'another name');
  server.context.apiKeys = [key('same', { limits: { ...limits, requestsPerMinute: 3 } })];
  for (const status of [200, 429]) t.equal(await ask(), status, 'one request more');
  server.context.apiKeys = [key('same', { limits: { ...limits, requestsPerMinute: null } })];
  t.equal(await ask(), 200);
});

void t.test('counted texts are requests of their key, and tenants share the places to count them', async (t) => {
  const limited = await build(t, undefined, { apiKeys: [key('few', { limits: { requestsPerMinute: 3 } })] });
  for (const [path, body, status] of [
    ['/tokenize', { prompt }, 200],
    ['/v1/messages/count_tokens', { model: 'fake', messages }, 200],
    ['/v1/responses/input_tokens', { input: 'Hi' }, 200],
    ['/tokenize', { prompt }, 429],
  ] as const)
    t.equal((await limited.ask(path, body, as('few'))).status, status, path);
  const open = await build(t, undefined, { options: { trustedProxies: ['127.0.0.1'] } });
  open.engine.ready = { ...READY, maxLength: 200_000 };
  const text = 'é à ü '.repeat(5_000);
  const count = (address: string) => open.ask('/tokenize', { prompt: text }, { 'x-forwarded-for': address });
  const crowd = await Promise.all(Array.from({ length: 12 }, () => count('10.0.0.1')));
  const rejected = crowd.filter(({ status }) => status === 429);
  t.ok(rejected.length > 0 && rejected.length <= 8, `${rejected.length} of 12`);
  t.match(rejected[0]?.body, { error: { code: 'queue_full' } });
  t.equal((await count('10.0.0.2')).status, 200);
});

void t.test('the max_tokens of a key bounds answers that state a length, and those that state none', async (t) => {
  const server = await build(t, says('one'), { apiKeys: [key('short', { policy: { maxTokens: 20 } }), 'free'] });
  const chat = '/v1/chat/completions';
  for (const [path, body, most, who = 'short'] of [
    [chat, { messages }, 20],
    [chat, { messages, max_tokens: 7 }, 7],
    [PATH, { prompt }, 16],
    ['/v1/messages', { model: 'fake', messages, max_tokens: 200 }, 20],
    [chat, { messages, max_tokens: 21 }, 21, 'free'],
  ] as const) {
    t.equal((await server.ask(path, body, as(who))).status, 200);
    t.equal(server.last().maxTokens, most);
  }
  for (const [path, body, field] of [
    [chat, { messages }, 'max_tokens'],
    [chat, { messages }, 'max_completion_tokens'],
    ['/v1/responses', { input: 'Hi' }, 'max_output_tokens'],
  ] as const) {
    const message = `${field} must be at most 20 with this API key, got 21.`;
    t.match((await server.ask(path, { ...body, [field]: 21 }, as('short'))).body, { error: { message } });
  }
});

void t.test('tokens per minute: the longest answer is reserved, and unused tokens come back', async (t) => {
  movedClock(t);
  const limits = { tokensPerMinute: 100 };
  const server = await build(t, says('one two three', { pace: 20 }), { apiKeys: [key('k', { limits })] });
  const ask = (max_tokens: number, more: object = {}) => server.ask(PATH, { prompt, max_tokens, ...more }, as('k'));
  const begun = await server.post(PATH, { prompt, max_tokens: 90, stream: true }, as('k'));
  t.equal(begun.headers.get('x-ratelimit-limit-tokens'), '100');
  t.equal(begun.headers.get('x-ratelimit-remaining-tokens'), String(10 - promptTokens));
  t.match(await ask(20), {
    status: 429,
    body: { error: { ...EXCEEDED, message: /100 tokens per minute/ } },
    headers: { 'x-ratelimit-limit-tokens': '100', 'x-ratelimit-remaining-tokens': /^\d+$/, 'retry-after': /^[1-9]/ },
  });
  t.match((await server.get('/metrics')).text, /key_limited_total\{limit="tokens",[^}]*\} 1\n/);
  await begun.text();
  const used = promptTokens + tokenizer.encode('one two three', false).length;
  const next = await ask(20);
  t.equal(next.status, 200);
  const left = Number(next.headers['x-ratelimit-remaining-tokens']);
  const expected = 100 - used - promptTokens - 20;
  t.ok(left >= expected && left <= expected + 1, `${left} are left, at least ${expected}`);
  const error = { code: 'invalid_value', param: 'max_tokens' };
  t.match(await ask(200), { status: 400, body: { error } }, 'a request that never fits is not worth a retry');
  t.equal((await ask(60, { n: 2 })).status, 400, 'every choice may be the longest');
});

void t.test('a request that is rejected or abandoned uses only the tokens that it got', async (t) => {
  const script = says('one two three four', { pace: 30 });
  const server = await build(t, script, { apiKeys: [key('k', { limits: { tokensPerMinute: 100 } })] });
  const ask = (max_tokens = 90) => server.ask(PATH, { prompt, max_tokens }, as('k'));
  server.engine.script = () => ({ tokens: [], reject: { reason: 'queue_full', leastFeasibleMs: null } });
  t.equal((await ask()).status, 429, 'the queue is full');
  server.engine.script = script;
  const leaver = new AbortController();
  const left = await server.post(PATH, { prompt, max_tokens: 90, stream: true }, as('k'), leaver.signal);
  t.equal(left.status, 200, 'the rejected request left nothing behind');
  leaver.abort();
  await t.rejects(left.text());
  await until('idle', () => server.engine.live === 0);
  t.equal((await ask(80)).status, 200);
});

void t.test('n answers count as n requests of a key, in flight and per minute', async (t) => {
  movedClock(t);
  const server = await build(t, says('one two three', { pace: 30 }), {
    apiKeys: [key('flight', { limits: { requestsInFlight: 3 } }), key('minute', { limits: { requestsPerMinute: 4 } })],
  });
  const asked = { prompt, max_tokens: 3 };
  const ask = (who: string, more: object) => server.ask(PATH, { ...asked, ...more }, as(who));
  const error = { code: 'invalid_value', param: 'n', message: /may have 3 requests.*got 4/ };
  t.match(await ask('flight', { n: 4 }), { status: 400, body: { error } }, 'a retry would not help');
  const two = await server.post(PATH, { ...asked, stream: true, prompt: [prompt, prompt] }, as('flight'));
  t.match(await ask('flight', { n: 2 }), {
    status: 429,
    headers: { 'retry-after': '1' },
    body: { error: { ...EXCEEDED, message: /3 requests in flight.*prompts times n/ } },
  });
  t.match((await server.get('/metrics')).text, /key_limited_total\{limit="in_flight",[^}]*\} 1\n/);
  t.equal((await ask('flight', {})).status, 200, 'the third is free');
  await two.text();
  t.equal((await ask('flight', { n: 3 })).status, 200);
  t.equal((await ask('minute', { n: 3 })).headers['x-ratelimit-remaining-requests'], '1');
  const waits: number[] = [];
  for (let i = 0; i < 3; i++) waits.push(Number((await ask('minute', { n: 2 })).headers['retry-after-ms']));
  t.ok(Math.max(...waits) <= 15_000 && Math.min(...waits) > 10_000, `a retry has the same wait: ${waits.join()}`);
  t.equal((await ask('minute', { n: 5 })).status, 400);
});

void t.test('model cards and props show the exits that the key may use', async (t) => {
  const server = await build(t, undefined, {
    limits: { policy: { defaultBudget: null, minExit: 15, maxExit: null } },
    apiKeys: [key('k', { policy: { maxExit: 20 } }), key('shallow', { policy: { minExit: 10, maxExit: 10 } }), 'open'],
  });
  for (const [who, exits] of Object.entries({ k: [15, 20], shallow: [10], open: [15, 20, 25, 30] })) {
    const get = (path: string) => server.get(path, { headers: as(who) });
    const { data } = (await get('/v1/models')).body as unknown as { data: { id: string }[] };
    const ids = data.map(({ id }) => id);
    t.same(ids, ['fake', ...exits.map((layer) => `fake:${layer}`)], who);
    for (const layer of [10, 15, 20, 25, 30])
      t.equal((await get(`/v1/models/fake:${layer}`)).status, exits.includes(layer) ? 200 : 404, `${who}, ${layer}`);
    t.match((await get('/props')).body, { min_exit_layer: exits[0], max_exit_layer: exits.at(-1) });
    await server.ask(PATH, { prompt }, as(who));
    t.equal(server.last().depth.maxExit, exits.at(-1), 'the engine gets the same bound');
  }
});

void t.test('each API key is a tenant, with or without a name; the engine and the log never see the key', async (t) => {
  const apiKeys = [key('sesame', { name: 'team-a' }), openKey('nameless')];
  const server = await build(t, undefined, { apiKeys, keepsLog: true });
  const tenants: string[] = [];
  // The case of the scheme has no effect.
  for (const authorization of ['Bearer sesame', 'bearer sesame', 'BEARER  sesame ', 'Bearer nameless']) {
    t.equal((await server.ask(PATH, { prompt, max_tokens: 2 }, { authorization })).status, 200, authorization);
    const { tenant = '' } = server.last();
    t.match(tenant, /^[0-9a-f]{16}$/);
    for (const each of ['sesame', 'nameless'])
      t.notOk(keyDigest(each).toString('hex').includes(tenant), 'nor its digest');
    tenants.push(tenant);
  }
  t.equal(new Set(tenants.slice(0, 3)).size, 1);
  t.equal(new Set(tenants).size, 2);
  const lines = await server.logged(4);
  const names = lines.map(({ key: name }) => name);
  t.same(names, ['team-a', 'team-a', 'team-a', undefined]);
  t.notMatch(JSON.stringify(lines), /sesame|nameless/);
});

// Bounds between clients, as they see them over HTTP.

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
  // One answer with four choices, which the report would have once.
  t.match(metrics, /outcome="refused"[^}]*\} 1\n/);
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
  await until('all bodies have begun', () => server.app.responses.size === open.length);
  const ask = (address: string) => server.ask('/v1/completions', { prompt: 'x' }, { 'x-forwarded-for': address });
  const refusedOr = async (status: number) => {
    await until(String(status), async () => (await ask('10.0.0.1')).status === status);
    return ask('10.0.0.1');
  };
  const error = { code: 'overloaded', message: /65536 bytes are on their way/ };
  t.match(await refusedOr(503), { status: 503, headers: { 'retry-after': '1' }, body: { error } });
  t.equal((await ask('10.0.0.2')).status, 200, 'another client has room');
  open[0]?.destroy();
  t.equal((await refusedOr(200)).status, 200);
});

void t.test('bodies of unknown lengths count in the sum from the turns of their requests on', async (t) => {
  const server = await build(t);
  const ask = () => {
    const payload = Readable.from([JSON.stringify({ prompt: 'x' })]);
    const headers = { 'content-type': 'application/json' };
    return server.app.inject({ method: 'POST', url: '/v1/completions', headers, payload });
  };
  const burst = await Promise.all(Array.from({ length: 40 }, ask));
  t.same([...new Set(burst.map(({ statusCode }) => statusCode))], [200]);
});

void t.test('a request without a length needs a usual answer only, and a longer one leaves a debt', async (t) => {
  const limits = { tokensPerMinute: 300 };
  const overrides = { apiKeys: [key('k', { limits })], limits: { maxTokensDefault: null } };
  const server = await build(t, says('one two three '.repeat(400)), overrides);
  server.engine.ready = { ...READY, maxLength: 4096 };
  const ask = (more: object = {}) => server.ask('/v1/chat/completions', { messages, ...more }, as('k'));
  const long = await ask();
  t.equal(long.status, 200, 'although the context is far longer than the allowance');
  t.ok((long.body.usage?.completion_tokens ?? 0) > 300);
  const next = await ask({ max_tokens: 1 });
  t.match(next, { status: 429, headers: { 'x-ratelimit-remaining-tokens': '0' } });
  t.ok(Number(next.headers['retry-after']) > 10, 'the debt refills first');
  t.equal((await ask({ max_tokens: 1000 })).status, 400, 'a stated length still has to fit');
});

void t.test('tenants take turns, one request in each turn of the event loop', async (t) => {
  const turns = new Turns();
  const begun: string[] = [];
  for (const tenant of ['a', 'a', 'a', 'b']) turns.next(tenant, () => begun.push(tenant));
  for (let turn = 0; turn < 5; turn++) {
    await nextTurn();
    t.equal(begun.length, turn, 'none in the turn of its arrival');
  }
  t.same(begun, ['a', 'b', 'a', 'a']);
});

void t.test('of turns in which requests arrive, one in four begins a request', async (t) => {
  const turns = new Turns();
  let begun = 0;
  for (let turn = 0; turn < 40; turn++) {
    turns.next('a', () => begun++);
    await nextTurn();
  }
  t.equal(begun, 10);
  for (let turn = 0; turn < 30; turn++) await nextTurn();
  t.equal(begun, 40, 'each turn does once none arrives');
});
