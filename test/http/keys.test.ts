import { chmodSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { openPolicy } from '../../src/gateway/api/context.js';
import { checkKeyExits, exposure, keyDigest, loadApiKeys, type ApiKey } from '../../src/gateway/http/keys.js';
import { warnOfKeyFile } from '../../src/gateway/serve/startup-log.js';
import { build, type Overrides } from '../fakes/server.js';

function load(t: Test, file: unknown): ApiKey[] {
  const dir = t.testdir({ 'keys.json': typeof file === 'string' ? file : JSON.stringify(file) });
  return loadApiKeys({ apiKey: [], apiKeyFile: join(dir, 'keys.json') });
}

void t.test('a JSON file gives each key its limits and its policy', (t) => {
  const keys = load(t, {
    keys: [
      {
        key: 'alpha',
        name: 'team-a',
        limits: {
          requests_per_minute: 60,
          tokens_per_minute: 10000,
          requests_in_flight: 4,
          max_tokens: 512,
        },
        default_budget: { latency_budget_ms: 500, budget_on_miss: 'truncate' },
        budget_on_miss: 'reject',
        net: 'land',
        min_exit_layer: 15,
        max_exit_layer: 25,
      },
      { sha256: keyDigest('beta').toString('hex') },
    ],
  });
  t.same(keys[0], {
    digest: keyDigest('alpha'),
    name: 'team-a',
    limits: { requestsPerMinute: 60, tokensPerMinute: 10000, requestsInFlight: 4 },
    policy: {
      defaultBudget: { totalMs: 500, ttftMs: null, tpotMs: null, onMiss: 'truncate' },
      onMiss: 'reject',
      net: 'land',
      minExit: 15,
      maxExit: 25,
      maxTokens: 512,
    },
  });
  t.match(keys[1], { digest: keyDigest('beta'), name: null, policy: openPolicy });
  t.end();
});

void t.test('a key file may have a byte order mark and Windows line ends', (t) => {
  for (const file of ['\uFEFF{\r\n"keys": [{ "key": "alpha" }]\r\n}', '\uFEFFalpha\r\n', '\uFEFF# staff\r\nalpha'])
    t.strictSame(
      load(t, file).map(({ digest }) => digest),
      [keyDigest('alpha')],
      JSON.stringify(file),
    );
  t.end();
});

void t.test('the error on an invalid file names the place and no key', async (t) => {
  const cases: [unknown, RegExp][] = [
    ['{ "keys": ', /valid JSON/],
    // Read as lines, this file would make a key of "[".
    [['secret'], /must be object/],
    ['[\n  "secret"\n]\n', /must be object/],
    [{ keys: [] }, /\/keys /],
    [{ keys: [{ name: 'nobody' }] }, /\/keys\/0 must have either key or sha256/],
    [{ keys: [{ key: 'secret', sha256: '0'.repeat(64) }] }, /\/keys\/0 must have either key or sha256/],
    [{ keys: [{ key: 'secret', limit: {} }] }, /: \/keys\/0\/limit is not a field of this file$/],
    [
      { keys: [{ key: 'secret', default_budget: { slo_ttft_ms: 1, budget_on_miss: 'stop' } }] },
      /budget_on_miss must be land or continue or truncate or reject$/,
    ],
    [{ keys: [{ key: 'secret', limits: { requests_per_minute: 0 } }] }, /\/keys\/0\/limits\/requests_per_minute/],
    [{ keys: [{ key: 'secret', default_budget: { budget_on_miss: 'reject' } }] }, /\/default_budget must have/],
    [{ keys: [{ key: 'secret', default_budget: { slo_ttft_ms: -1 } }] }, /\/keys\/0\/default_budget\/slo_ttft_ms/],
    [{ keys: [{ key: 'secret' }, { key: 'secret' }] }, /must not repeat a key/],
    [{ keys: [{ key: 'secret with blanks' }] }, /\/keys\/0\/key/],
    [{ keys: [{ key: 'secr\u00e9t' }] }, /\/keys\/0\/key/],
    ['# staff\nalpha\nsecret # comment\n', /line 3 must be one word of printable ASCII characters/],
    ['secret\u00a0x', /line 1 must be/],
  ];
  for (const [file, message] of cases)
    await t.test(JSON.stringify(file), async (t) => {
      try {
        load(t, file);
        t.fail('the file was accepted');
      } catch (error) {
        t.match((error as Error).message, message);
        t.notMatch((error as Error).message, /secret/);
      }
    });
});

void t.test('exit bounds of a key must be exits of the model, and leave at least one exit', (t) => {
  const exits = [10, 20, 30];
  const key = (fields: object) => load(t, { keys: [{ key: 'alpha', ...fields }] });
  checkKeyExits(key({ min_exit_layer: 10, max_exit_layer: 10 }), exits);
  t.throws(() => {
    checkKeyExits(key({ min_exit_layer: 12 }), exits);
  }, /min_exit_layer must be an exit of the model \(10, 20, 30\), got 12/);
  t.throws(() => {
    checkKeyExits(key({ min_exit_layer: 20, max_exit_layer: 10 }), exits);
  }, /at most 10, got 20/);
  t.end();
});

void t.test('a key file that other users can read or change is logged with its mode', (t) => {
  const file = join(t.testdir({ keys: 'sesame' }), 'keys');
  const lines: string[] = [];
  const log = { warn: (_fields: object, message: string) => lines.push(message) } as never;
  for (const [mode, shown] of [
    [0o600, null],
    [0o440, null],
    [0o660, '660'],
    [0o644, '644'],
    [0o666, '666'],
  ] as const) {
    chmodSync(file, mode);
    t.equal(exposure(file), shown);
    warnOfKeyFile(file, log);
  }
  warnOfKeyFile(null, log);
  t.equal(lines.length, 3);
  t.match(lines[2], /mode 666/);
  t.end();
});

// The prefix space that the gateway states to the engine: by key, by address, by salt, and by --prefix-reuse.

const KEYS = ['alpha-secret', 'beta-secret'];
/** Requests as their key or address with a salt, and the number of the space of each. */
const SPACES: readonly [title: string, Overrides, requests: readonly string[], spaces: readonly number[]][] = [
  [
    'each key has its own space, and a salt separates further within it',
    { apiKeys: KEYS },
    ['alpha', 'alpha', 'beta', 'alpha s', 'alpha s', 'alpha u', 'beta s'],
    [0, 0, 2, 3, 3, 5, 6],
  ],
  [
    'with --prefix-reuse all, keys share one space, and salts stay apart',
    { apiKeys: KEYS, limits: { prefixReuse: 'all' } },
    ['alpha', 'alpha s', 'beta', 'beta s'],
    [0, 1, 0, 1],
  ],
  [
    'without keys, the requests of an address share one space, and salts stay apart',
    {},
    ['10.0.0.1', '10.0.0.1', '10.0.0.1 s', '10.0.0.1 u', '10.0.0.2'],
    [0, 0, 2, 3, 4],
  ],
];

for (const [title, overrides, requests, spaces] of SPACES)
  void t.test(title, async (t) => {
    const server = await build(t, undefined, { options: { trustedProxies: ['127.0.0.1'] }, ...overrides });
    for (const request of requests) {
      const [who = '', cache_salt] = request.split(' ');
      const headers = { authorization: `Bearer ${who}-secret`, 'x-forwarded-for': who };
      await server.ask('/v1/completions', { prompt: 'a', cache_salt }, headers);
    }
    const found = server.engine.requests.map(({ prefixSpace }) => prefixSpace);
    t.same(
      found.map((space) => found.indexOf(space)),
      spaces,
    );
    for (const space of found) {
      if (space !== undefined) t.match(space, /^[\w-]{43}$/, 'an opaque name');
      for (const key of KEYS) t.notOk(space?.includes(keyDigest(key).toString('base64url')), 'not the digest of a key');
    }
  });
