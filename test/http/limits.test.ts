/** The limits of a key: reported in OpenAI's headers, enforced with 429, returned if unused. */
import t from 'tap';
import { TokenBucket } from '../../src/gateway/http/token-bucket.js';
import { duration } from '../../src/gateway/http/plugins/limits.js';
import { keyDigest, openKey, type ApiKey } from '../../src/gateway/http/keys.js';
import { READY } from '../fakes/engine.js';
import { build, says, tokenizer } from '../fakes/server.js';
import { until } from '../support/until.js';

type KeyFields = Omit<Partial<ApiKey>, 'limits' | 'policy'> & {
  readonly limits?: Partial<ApiKey['limits']>;
  readonly policy?: Partial<ApiKey['policy']>;
};

function key(text: string, { limits, policy, ...fields }: KeyFields): ApiKey {
  const open = openKey(text);
  return { ...open, ...fields, limits: { ...open.limits, ...limits }, policy: { ...open.policy, ...policy } };
}

const as = (text: string, more: Record<string, string> = {}) => ({ authorization: `Bearer ${text}`, ...more });
const prompt = 'Hello';
const promptTokens = tokenizer.encode(prompt, true).length;

void t.test("durations have OpenAI's form", (t) => {
  const written = [0.2, 999, 1500, 59_990, 60_000, 90_500, 119_600, 360_000].map(duration);
  t.strictSame(written, ['1ms', '999ms', '1.5s', '59.99s', '1m0s', '1m31s', '2m0s', '6m0s']);
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
  bucket.give(10, 2000);
  t.equal(bucket.level(2000), 12);
  bucket.give(1000, 2000);
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
  const ask = () => server.post('/v1/completions', { prompt, max_tokens: 1 }, as('same'));
  for (const status of [200, 200, 429]) t.equal((await ask()).status, status);
  server.context.apiKeys = [{ ...key('same', { limits }), name: 'renamed' }];
  t.equal((await ask()).status, 429, 'another name');
  server.context.apiKeys = [key('same', { limits: { ...limits, requestsPerMinute: 3 } })];
  for (const status of [200, 429]) t.equal((await ask()).status, status, 'one request more');
  server.context.apiKeys = [key('same', { limits: { ...limits, requestsPerMinute: null } })];
  t.equal((await ask()).status, 200);
});

void t.test('counted texts are requests of their key, and tenants share the places to count them', async (t) => {
  const limited = await build(t, undefined, { apiKeys: [key('few', { limits: { requestsPerMinute: 3 } })] });
  const messages = [{ role: 'user', content: 'Hi' }];
  const asked = [
    ['/tokenize', { prompt }],
    ['/v1/messages/count_tokens', { model: 'fake', messages }],
    ['/v1/responses/input_tokens', { input: 'Hi' }],
  ] as const;
  for (const [path, body] of asked) t.equal((await limited.post(path, body, as('few'))).status, 200, path);
  t.equal((await limited.post('/tokenize', { prompt }, as('few'))).status, 429);
  const open = await build(t, undefined, { options: { trustedProxies: ['127.0.0.1'] } });
  const { ready } = open.engine;
  if (ready !== null) open.engine.ready = { ...ready, maxLength: 200_000 };
  const text = 'é à ü '.repeat(5_000);
  const count = (address: string) => open.post('/tokenize', { prompt: text }, { 'x-forwarded-for': address });
  const crowd = await Promise.all(Array.from({ length: 12 }, () => count('10.0.0.1')));
  const rejected = crowd.filter(({ status }) => status === 429);
  t.ok(rejected.length > 0 && rejected.length <= 8, `${rejected.length} of 12`);
  t.match(await rejected[0]?.json(), { error: { code: 'queue_full' } });
  t.equal((await count('10.0.0.2')).status, 200);
});

void t.test('the max_tokens of a key bounds answers that state a length, and those that state none', async (t) => {
  const policy = { maxTokens: 20 };
  const server = await build(t, says('one'), { apiKeys: [key('short', { policy }), 'free'] });
  const messages = [{ role: 'user', content: 'Hi' }];
  const longest = async (path: string, body: object, who = 'short'): Promise<unknown> => {
    const response = await server.post(path, body, as(who));
    if (response.status !== 200) return ((await response.json()) as { error: { message: string } }).error.message;
    await response.text();
    return server.engine.requests.at(-1)?.maxTokens;
  };
  t.equal(await longest('/v1/chat/completions', { messages }), 20);
  t.equal(await longest('/v1/chat/completions', { messages, max_tokens: 7 }), 7);
  t.equal(await longest('/v1/completions', { prompt }), 16);
  t.equal(await longest('/v1/messages', { model: 'fake', messages, max_tokens: 200 }), 20);
  const rule = (field: string): string => `${field} must be at most 20 with this API key, got 21.`;
  for (const field of ['max_tokens', 'max_completion_tokens'])
    t.equal(await longest('/v1/chat/completions', { messages, [field]: 21 }), rule(field));
  t.equal(await longest('/v1/responses', { input: 'Hi', max_output_tokens: 21 }), rule('max_output_tokens'));
  t.equal(await longest('/v1/chat/completions', { messages, max_tokens: 21 }, 'free'), 21);
});

void t.test('requests per minute: reported, then rejected with the time to wait', async (t) => {
  const limited = key('limited', { limits: { requestsPerMinute: 2 } });
  const server = await build(t, undefined, { apiKeys: [limited, 'free'] });
  const ask = (who: string) => server.post('/v1/completions', { prompt, max_tokens: 2 }, as(who));
  const first = await ask('limited');
  t.equal(first.status, 200);
  t.equal(first.headers.get('x-ratelimit-limit-requests'), '2');
  t.equal(first.headers.get('x-ratelimit-remaining-requests'), '1');
  t.match(first.headers.get('x-ratelimit-reset-requests'), /^(30s|29\.\d+s)$/);
  t.equal(first.headers.get('x-ratelimit-limit-tokens'), null);
  t.equal((await ask('limited')).status, 200);
  const rejected = await ask('limited');
  t.equal(rejected.status, 429);
  t.match(await rejected.json(), { error: { type: 'rate_limit_error', code: 'rate_limit_exceeded', param: null } });
  t.match(rejected.headers.get('retry-after'), /^(29|30)$/);
  const ms = Number(rejected.headers.get('retry-after-ms'));
  t.ok(ms > 25_000 && ms <= 30_000, `${ms}`);
  t.ok(Number(rejected.headers.get('retry-after')) * 1000 >= ms, 'the seconds are rounded up');
  t.equal(rejected.headers.get('x-ratelimit-remaining-requests'), '0');
  t.equal((await ask('free')).status, 200, 'another key has its own limits');
  const models = await fetch(`${server.url}/v1/models`, { headers: as('limited') });
  t.equal(models.status, 200, 'only generation is limited');
  t.match(await (await fetch(`${server.url}/metrics`)).text(), /key_limited_total\{limit="requests",[^}]*\} 1\n/);
});

void t.test('a rejected request costs nothing, so a retry has the same wait', async (t) => {
  const limits = { requests: { requestsPerMinute: 1 }, tokens: { tokensPerMinute: promptTokens + 2 } };
  const apiKeys = Object.entries(limits).map(([name, limit]) => key(name, { limits: limit }));
  const server = await build(t, undefined, { apiKeys });
  for (const who of Object.keys(limits)) {
    const ask = () => server.post('/v1/completions', { prompt, max_tokens: 2 }, as(who));
    t.equal((await ask()).status, 200, who);
    for (let i = 0; i < 3; i++) {
      const rejected = await ask();
      t.equal(rejected.status, 429, who);
      t.ok(Number(rejected.headers.get('retry-after-ms')) <= 60_000, `${who}: a minute fills it`);
    }
  }
});

void t.test('tokens per minute: the longest answer is reserved, and unused tokens come back', async (t) => {
  const limits = { tokensPerMinute: 100 };
  const server = await build(t, says('one two three', { pace: 20 }), { apiKeys: [key('k', { limits })] });
  const ask = (max_tokens: number, more: object = {}) =>
    server.post('/v1/completions', { prompt, max_tokens, ...more }, as('k'));
  const running = ask(90, { stream: true });
  const begun = await running;
  t.equal(begun.headers.get('x-ratelimit-limit-tokens'), '100');
  t.equal(begun.headers.get('x-ratelimit-remaining-tokens'), String(10 - promptTokens));
  const rejected = await ask(20);
  t.equal(rejected.status, 429);
  t.match(await rejected.json(), { error: { code: 'rate_limit_exceeded', message: /100 tokens per minute/ } });
  t.ok(Number(rejected.headers.get('retry-after')) >= 1);
  t.equal(rejected.headers.get('x-ratelimit-limit-tokens'), '100');
  t.match(rejected.headers.get('x-ratelimit-remaining-tokens'), /^\d+$/);
  t.match(await (await fetch(`${server.url}/metrics`)).text(), /key_limited_total\{limit="tokens",[^}]*\} 1\n/);
  await begun.text();
  const used = promptTokens + tokenizer.encode('one two three', false).length;
  const next = await ask(20);
  t.equal(next.status, 200);
  const left = Number(next.headers.get('x-ratelimit-remaining-tokens'));
  const expected = 100 - used - promptTokens - 20;
  t.ok(left >= expected && left <= expected + 2, `${left} are left, at least ${expected}`);
  const large = await ask(200);
  t.equal(large.status, 400, 'a request that never fits is not worth a retry');
  t.match(await large.json(), { error: { code: 'invalid_value', param: 'max_tokens' } });
  t.equal((await ask(60, { n: 2 })).status, 400, 'every choice may be the longest');
});

void t.test('a request without a length needs a usual answer only, and a longer one leaves a debt', async (t) => {
  const limits = { tokensPerMinute: 300 };
  const overrides = { apiKeys: [key('k', { limits })], limits: { maxTokensDefault: null } };
  const server = await build(t, says('one two three '.repeat(400)), overrides);
  server.engine.ready = { ...READY, maxLength: 4096 };
  const ask = (more: object = {}) =>
    server.post('/v1/chat/completions', { messages: [{ role: 'user', content: 'Hi' }], ...more }, as('k'));
  const long = await ask();
  t.equal(long.status, 200, 'although the context is far longer than the allowance');
  const { usage } = (await long.json()) as { usage: { completion_tokens: number } };
  t.ok(usage.completion_tokens > 300);
  const next = await ask({ max_tokens: 1 });
  t.equal(next.status, 429);
  t.equal(next.headers.get('x-ratelimit-remaining-tokens'), '0');
  t.ok(Number(next.headers.get('retry-after')) > 10, 'the debt refills first');
  t.equal((await ask({ max_tokens: 1000 })).status, 400, 'a stated length still has to fit');
});

void t.test('a request that is rejected or abandoned uses only the tokens that it got', async (t) => {
  const limits = { tokensPerMinute: 100 };
  let reject = true;
  const full = { reject: { reason: 'queue_full', leastFeasibleMs: null } } as const;
  const script = () => says('one two three four', { pace: 30, ...(reject && full) })();
  const server = await build(t, script, { apiKeys: [key('k', { limits })] });
  const ask = (more: object = {}, signal: AbortSignal | null = null) =>
    fetch(`${server.url}/v1/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...as('k') },
      body: JSON.stringify({ prompt, max_tokens: 90, ...more }),
      signal,
    });
  t.equal((await ask()).status, 429, 'the queue is full');
  reject = false;
  const leaver = new AbortController();
  const left = await ask({ stream: true }, leaver.signal);
  t.equal(left.status, 200, 'the rejected request left nothing behind');
  leaver.abort();
  await t.rejects(left.text());
  await until('idle', () => server.engine.live === 0);
  t.equal((await ask({ max_tokens: 80 })).status, 200);
});

void t.test('requests in flight', async (t) => {
  const apiKeys = [key('k', { limits: { requestsInFlight: 1 } })];
  const server = await build(t, says('one two three', { pace: 30 }), { apiKeys });
  const ask = () => server.post('/v1/completions', { prompt, max_tokens: 3, stream: true }, as('k'));
  const first = await ask();
  const second = await ask();
  t.equal(second.status, 429);
  t.equal(second.headers.get('retry-after'), '1');
  t.match(await second.json(), { error: { code: 'rate_limit_exceeded' } });
  t.match(await (await fetch(`${server.url}/metrics`)).text(), /key_limited_total\{limit="in_flight",[^}]*\} 1\n/);
  await first.text();
  t.equal((await ask()).status, 200);
});

void t.test('n answers count as n requests of a key', async (t) => {
  const server = await build(t, says('one two three', { pace: 30 }), {
    apiKeys: [key('flight', { limits: { requestsInFlight: 3 } }), key('minute', { limits: { requestsPerMinute: 4 } })],
  });
  const ask = (who: string, body: object) =>
    server.post('/v1/completions', { prompt, max_tokens: 3, stream: true, ...body }, as(who));
  const never = await ask('flight', { n: 4 });
  t.equal(never.status, 400, 'a retry would not help');
  t.match(await never.json(), { error: { code: 'invalid_value', param: 'n', message: /may have 3 requests.*got 4/ } });
  const two = await ask('flight', { prompt: [prompt, prompt] });
  t.equal(two.status, 200);
  const third = await ask('flight', { n: 2 });
  t.equal(third.status, 429);
  const error = { code: 'rate_limit_exceeded', message: /3 requests in flight.*prompts times n/ };
  t.match(await third.json(), { error });
  const last = await ask('flight', {});
  t.equal(last.status, 200, 'the third is free');
  await Promise.all([two.text(), last.text()]);
  const freed = await ask('flight', { n: 3 });
  t.equal(freed.status, 200);
  await freed.text();

  const first = await ask('minute', { n: 3 });
  t.equal(first.headers.get('x-ratelimit-remaining-requests'), '1');
  await first.text();
  const waits: number[] = [];
  for (let i = 0; i < 3; i++) waits.push(Number((await ask('minute', { n: 2 })).headers.get('retry-after-ms')));
  t.ok(Math.max(...waits) <= 15_000 && Math.min(...waits) > 10_000, `a retry has the same wait: ${waits.join()}`);
  t.equal((await ask('minute', { n: 5 })).status, 400);
});

void t.test('model cards and props show the exits that the key may use', async (t) => {
  const server = await build(t, undefined, {
    limits: { policy: { defaultBudget: null, minExit: 15, maxExit: null } },
    apiKeys: [key('k', { policy: { maxExit: 20 } }), key('shallow', { policy: { minExit: 10, maxExit: 10 } }), 'open'],
  });
  for (const [who, exits] of Object.entries({ k: [15, 20], shallow: [10], open: [15, 20, 25, 30] })) {
    const get = (path: string) => fetch(server.url + path, { headers: as(who) });
    const { data } = (await (await get('/v1/models')).json()) as { data: { id: string }[] };
    const ids = data.map(({ id }) => id);
    t.same(ids, ['fake', ...exits.map((layer) => `fake:${layer}`)], who);
    for (const layer of [10, 15, 20, 25, 30]) {
      const card = await get(`/v1/models/fake:${layer}`);
      t.equal(card.status, exits.includes(layer) ? 200 : 404, `${who}, ${layer}`);
    }
    const bounds = { min_exit_layer: exits[0], max_exit_layer: exits.at(-1) };
    t.match(await (await get('/props')).json(), bounds);
    await server.post('/v1/completions', { prompt }, as(who));
    t.equal(server.engine.requests.at(-1)?.depth.maxExit, exits.at(-1), 'the engine gets the same bound');
  }
});

void t.test('each API key is a tenant, with or without a name; its opaque name never shows the key', async (t) => {
  const server = await build(t, undefined, { apiKeys: [{ ...openKey('sesame'), name: 'team-a' }, openKey('open')] });
  const keys: unknown[] = [];
  for (const key of ['sesame', 'open']) {
    const authorization = `Bearer ${key}`;
    t.equal((await server.post('/v1/completions', { prompt }, { authorization })).status, 200);
    const tenant = server.engine.requests.at(-1)?.tenant ?? '';
    t.match(tenant, /^[0-9a-f]{16}$/);
    t.notOk(keyDigest(key).toString('hex').includes(tenant), 'nor its digest');
    keys.push(tenant);
  }
  t.equal(new Set(keys).size, 2);
});

void t.test('the log names the key and never its text, whatever the case of the scheme', async (t) => {
  const log: string[] = [];
  const server = await build(t, undefined, {
    apiKeys: [key('sesame', { name: 'team-a' }), 'nameless'],
    log: (line) => log.push(line),
  });
  const names: unknown[] = [];
  for (const authorization of ['Bearer sesame', 'bearer sesame', 'BEARER  sesame ', 'Bearer nameless']) {
    const before = log.length;
    const answer = await server.post('/v1/completions', { prompt, max_tokens: 2 }, { authorization });
    t.equal(answer.status, 200, authorization);
    await answer.text();
    await until('logged', () => log.length > before);
    names.push((JSON.parse(log.at(-1) ?? '') as { key?: string }).key);
  }
  t.same(names, ['team-a', 'team-a', 'team-a', undefined]);
  t.notMatch(log.join('\n'), /sesame|nameless/);
});
