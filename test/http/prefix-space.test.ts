/** The prefix space that the gateway states to the engine: by key, by salt, and by --prefix-reuse. */
import t, { type Test } from 'tap';
import { keyDigest } from '../../src/gateway/http/keys.js';
import { build, type Overrides } from '../fakes/server.js';

const KEYS = ['alpha-secret', 'beta-secret'];

/** The space of each request, sent in this order. */
async function spaces(
  t: Test,
  overrides: Overrides,
  requests: readonly { readonly key?: string; readonly salt?: string }[],
): Promise<(string | undefined)[]> {
  const server = await build(t, undefined, overrides);
  for (const { key, salt } of requests) {
    const headers = key === undefined ? {} : { authorization: `Bearer ${key}` };
    const response = await server.post('/v1/completions', { prompt: 'a', cache_salt: salt }, headers);
    t.equal(response.status, 200);
  }
  return server.engine.requests.map(({ prefixSpace }) => prefixSpace);
}

void t.test('each key has its own space, and a salt separates further within it', async (t) => {
  const [alpha, beta] = KEYS.map((key) => ({ key }));
  if (!alpha || !beta) throw new Error('two keys');
  const found = await spaces(t, { apiKeys: KEYS }, [
    alpha,
    alpha,
    beta,
    { ...alpha, salt: 's' },
    { ...alpha, salt: 's' },
    { ...alpha, salt: 'u' },
    { ...beta, salt: 's' },
  ]);
  t.equal(new Set(found).size, 5);
  t.equal(found[0], found[1]);
  t.equal(found[3], found[4]);
  for (const space of found) {
    t.match(space, /^[\w-]{43}$/, 'an opaque name');
    for (const key of KEYS) t.notOk(space?.includes(keyDigest(key).toString('base64url')), 'not the digest of a key');
  }
});

void t.test('with --prefix-reuse all, keys share one space, and salts stay apart', async (t) => {
  const requests = KEYS.flatMap((key) => [{ key }, { key, salt: 's' }]);
  const [plain, salted, ...others] = await spaces(t, { apiKeys: KEYS, limits: { prefixReuse: 'all' } }, requests);
  t.equal(plain, undefined);
  t.type(salted, 'string');
  t.strictSame(others, [plain, salted]);
});

void t.test('without keys, the requests of an address share one space, and salts stay apart', async (t) => {
  const [plain, unknownKey, salted, other] = await spaces(t, {}, [{}, { key: 'any' }, { salt: 's' }, { salt: 'u' }]);
  t.match(plain, /^[\w-]{43}$/, 'an opaque name');
  t.equal(plain, unknownKey);
  t.not(plain, salted);
  t.type(salted, 'string');
  t.not(salted, other);
});

void t.test('without keys, clients of two addresses share no space', async (t) => {
  const server = await build(t, undefined, { options: { trustedProxies: ['127.0.0.1'] } });
  for (const address of ['10.0.0.1', '10.0.0.2', '10.0.0.1'])
    await (await server.post('/v1/completions', { prompt: 'a' }, { 'x-forwarded-for': address })).text();
  const [one, other, again] = server.engine.requests.map(({ prefixSpace }) => prefixSpace);
  t.not(one, other);
  t.equal(one, again);
});

void t.test('a salt is a text of 1 to 256 characters', async (t) => {
  const server = await build(t);
  for (const [salt, status] of [
    ['x'.repeat(256), 200],
    ['x'.repeat(257), 400],
    ['', 400],
    [1, 400],
    [null, 200],
  ] as const) {
    const response = await server.post('/v1/completions', { prompt: 'a', cache_salt: salt });
    t.equal(response.status, status, JSON.stringify(salt));
    if (status === 400) t.match(await response.json(), { error: { code: 'invalid_value', param: 'cache_salt' } });
  }
});
