/** Limits of API keys hold on each replica by itself: two replicas give a client twice the limit. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { tinyModel } from './helper.js';
import { post, throughEach } from './pool.js';

const PER_MINUTE = 4;
const dir = t.testdir({});
const model = tinyModel(dir);
const keys = join(dir, 'keys.json');
writeFileSync(
  keys,
  JSON.stringify({
    keys: [
      ...['envoy', 'haproxy', 'nginx'].map((proxy) => ({
        ...{ key: `sk-${proxy}`, name: proxy },
        limits: { requests_per_minute: PER_MINUTE },
      })),
      { key: 'sk-open' },
    ],
  }),
);
const ask = (url: string, key: string) =>
  post(url, { prompt: 'Hello', max_tokens: 1 }, { authorization: `Bearer ${key}` });

void t.test('each replica counts the requests of a key by itself', (t) =>
  throughEach(t, model, ['--api-key-file', keys], async (t, proxy, { url }) => {
    const limited = `sk-${proxy}`;
    const statuses: number[] = [];
    for (let i = 0; i < 2 * PER_MINUTE; i++) statuses.push((await ask(url, limited)).status);
    t.same(statuses, new Array(2 * PER_MINUTE).fill(200), 'the proxy moves on from the first 429');
    const rejected = await ask(url, limited);
    t.equal(rejected.status, 429);
    t.match(await rejected.json(), { error: { code: 'rate_limit_exceeded' } });
    t.equal(rejected.headers.get('x-ratelimit-limit-requests'), String(PER_MINUTE), 'each replica states its own');
    t.ok(Number(rejected.headers.get('retry-after')) > 1);
    for (let i = 0; i < 4; i++) t.equal((await ask(url, 'sk-open')).status, 200, 'other keys are served');
    t.equal((await ask(url, 'sk-unknown')).status, 401);
  }),
);
