/** The prefix space that the gateway states to the engine: by key, by address, by salt, and by --prefix-reuse. */
import t, { type Test } from 'tap';
import { keyDigest } from '../../src/gateway/http/keys.js';
import { build, type Overrides } from '../fakes/server.js';

const KEYS = ['alpha-secret', 'beta-secret'];
const as = (key: string) => ({ authorization: `Bearer ${key}-secret` });
const alpha = as('alpha');
const beta = as('beta');
const from = (address: string) => ({ 'x-forwarded-for': address });

/** Groups requests, as headers and a salt, by their space: those with the same number share one. */
async function spaces(t: Test, overrides: Overrides, requests: [headers?: Record<string, string>, salt?: string][]) {
  const server = await build(t, undefined, { options: { trustedProxies: ['127.0.0.1'] }, ...overrides });
  for (const [headers, cache_salt] of requests)
    await server.ask('/v1/completions', { prompt: 'a', cache_salt }, headers);
  const found = server.engine.requests.map(({ prefixSpace }) => prefixSpace);
  for (const space of found) {
    if (space !== undefined) t.match(space, /^[\w-]{43}$/, 'an opaque name');
    for (const key of KEYS) t.notOk(space?.includes(keyDigest(key).toString('base64url')), 'not the digest of a key');
  }
  return { found, groups: found.map((space) => found.indexOf(space)) };
}

void t.test('each key has its own space, and a salt separates further within it', async (t) => {
  const { groups } = await spaces(t, { apiKeys: KEYS }, [
    [alpha],
    [alpha],
    [beta],
    [alpha, 's'],
    [alpha, 's'],
    [alpha, 'u'],
    [beta, 's'],
  ]);
  t.same(groups, [0, 0, 2, 3, 3, 5, 6]);
});

void t.test('with --prefix-reuse all, keys share one space, and salts stay apart', async (t) => {
  const overrides = { apiKeys: KEYS, limits: { prefixReuse: 'all' } } as const;
  const { found, groups } = await spaces(t, overrides, [[alpha], [alpha, 's'], [beta], [beta, 's']]);
  t.equal(found[0], undefined);
  t.same(groups, [0, 1, 0, 1]);
});

void t.test('without keys, the requests of an address share one space, and salts stay apart', async (t) => {
  const one = from('10.0.0.1');
  const { groups } = await spaces(t, {}, [[one], [{ ...one, ...alpha }], [one, 's'], [one, 'u'], [from('10.0.0.2')]]);
  t.same(groups, [0, 0, 2, 3, 4]);
});
