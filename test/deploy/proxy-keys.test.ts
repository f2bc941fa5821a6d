/** Limits of API keys hold on each replica by itself: two replicas give a client twice the limit. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { tinyModel } from './helper.js';
import { missing, post, PROXIES, startPool } from './pool.js';

const PER_MINUTE = 4;
const dir = t.testdir({});
const model = tinyModel(dir);
const keys = join(dir, 'keys.json');
writeFileSync(
  keys,
  JSON.stringify({
    keys: [{ key: 'sk-limited', name: 'limited', limits: { requests_per_minute: PER_MINUTE } }, { key: 'sk-open' }],
  }),
);
const ask = (url: string, key: string) =>
  post(url, { prompt: 'Hello', max_tokens: 1 }, { authorization: `Bearer ${key}` });

t.setTimeout(120_000);
for (const proxy of PROXIES)
  void t.test(proxy, { skip: missing(proxy) }, async (t) => {
    const { url } = await startPool(t, proxy, model, ['--api-key-file', keys]);
    const statuses: number[] = [];
    for (let i = 0; i < 2 * PER_MINUTE; i++) statuses.push((await ask(url, 'sk-limited')).status);
    t.same(statuses, new Array(2 * PER_MINUTE).fill(200), 'the proxy moves on from the first 429');
    const refused = await ask(url, 'sk-limited');
    t.equal(refused.status, 429);
    t.match(await refused.json(), { error: { code: 'rate_limit_exceeded' } });
    t.equal(refused.headers.get('x-ratelimit-limit-requests'), String(PER_MINUTE), 'each replica states its own');
    t.ok(Number(refused.headers.get('retry-after')) > 1);
    for (let i = 0; i < 4; i++) t.equal((await ask(url, 'sk-open')).status, 200, 'other keys are served');
    t.equal((await ask(url, 'sk-unknown')).status, 401);
  });
