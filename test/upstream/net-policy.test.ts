/** The pure parts of nets: the breaker, the faults that start one, and early starts. */
import t from 'tap';
import { Breaker } from '../../src/gateway/upstream/breaker.js';
import { barOf, isNetted } from '../../src/gateway/upstream/net-policy.js';
import type { UpstreamCall } from '../../src/gateway/upstream/call.js';
import { netStart, accuracyWithin } from '../../src/gateway/upstream/early-start.js';
import { FirstSentence, SentenceTimes } from '../../src/gateway/upstream/sentence-times.js';

void t.test('a breaker opens behind five failures in a row, and tries once a second', async (t) => {
  for (const [fail, other] of [
    [
      (breaker: Breaker, now: number) => {
        breaker.failed('a', now);
      },
      true,
    ],
    [
      (breaker: Breaker, now: number) => {
        breaker.unreachable(now);
      },
      false,
    ],
  ] as const) {
    const changes: boolean[] = [];
    const breaker = new Breaker((isOpen) => void changes.push(isOpen));
    for (let i = 0; i < 4; i += 1) fail(breaker, i);
    breaker.succeeded('a');
    for (let i = 0; i < 4; i += 1) fail(breaker, i);
    t.ok(breaker.admits('a', 4));
    fail(breaker, 5);
    t.notOk(breaker.admits('a', 6));
    t.equal(breaker.admits('b', 6), other, 'a connection fails for all, a status for its tenant');
    t.ok(breaker.admits('a', 1005), 'a try a second later');
    t.notOk(breaker.admits('a', 1006), 'one at a time');
    fail(breaker, 1007);
    t.notOk(breaker.admits('a', 1500));
    t.ok(breaker.admits('a', 2005));
    breaker.succeeded(other ? 'a' : 'b');
    t.ok(breaker.admits('a', 2006));
    t.same(changes, [true, false]);
  }
});

void t.test('the tries of an upstream without connections go round its tenants', async (t) => {
  const breaker = new Breaker();
  for (let i = 0; i < 5; i += 1) breaker.unreachable(0);
  const tries = { often: 0, seldom: 0 };
  for (let now = 0; now < 60_000; now += 10) {
    if (breaker.admits('often', now)) tries.often += 1;
    if (now % 400 === 0 && breaker.admits('seldom', now)) tries.seldom += 1;
  }
  t.ok(tries.seldom >= 20 && tries.often >= 20, JSON.stringify(tries));
  t.ok(tries.seldom + tries.often <= 60, 'one a second of both');
});

void t.test('a breaker forgets tenants that are idle, and the first of too many', async (t) => {
  const changes: boolean[] = [];
  const breaker = new Breaker((isOpen) => void changes.push(isOpen));
  const fail = (tenant: string, now: number): void => {
    for (let i = 0; i < 5; i += 1) breaker.failed(tenant, now);
  };
  fail('a', 0);
  t.notOk(breaker.admits('a', 1));
  t.ok(breaker.admits('b', 60_000));
  t.same(changes, [true, false], 'without another request of its tenant');
  fail('a', 60_000);
  for (let i = 0; i < 1000; i += 1) breaker.failed(String(i), 60_000);
  t.ok(breaker.admits('a', 60_001));
});

void t.test('the faults that start a net', async (t) => {
  const answer = (status: number, headers = {}) => ({ status, headers, body: '{}' });
  for (const status of [200, 400, 401, 403, 404, 413, 422]) t.notOk(isNetted(answer(status), 500, 0), `${status}`);
  for (const status of [500, 502, 503, 529]) t.ok(isNetted(answer(status), 500, 0), `${status}`);
  t.ok(isNetted(answer(429), 500, 0), 'a limit without a time');
  t.ok(isNetted(answer(429, { 'retry-after': '1' }), 500, 0));
  t.notOk(isNetted(answer(429, { 'retry-after': '1' }), 1500, 0));
  t.notOk(isNetted(answer(429, { 'retry-after-ms': '400', 'retry-after': '1' }), 500, 0));
  const date = Date.parse('2026-01-01T00:00:00Z');
  t.ok(isNetted(answer(429, { 'retry-after': 'Thu, 01 Jan 2026 00:00:09 GMT' }), 500, date));
});

void t.test('the forms of answers without a net', async (t) => {
  const bar = (body: object) => barOf({ path: '/chat/completions', request: { body } } as unknown as UpstreamCall);
  t.equal(bar({}), null);
  t.equal(bar({ tools: [], n: 1, logprobs: false, response_format: { type: 'text' } }), null);
  t.equal(bar({ tools: [{ type: 'function' }], logprobs: true, response_format: { type: 'json_object' } }), null);
  t.equal(bar({ functions: [{ name: 'f' }] }), 'functions');
  t.equal(bar({ n: 2 }), null);
  t.equal(bar({ guided_json: {} }), 'grammar');
  t.equal(bar({ guided_json: null }), null);
});

void t.test('an upstream without tries has its sentences in time', async (t) => {
  t.equal(new SentenceTimes().chance(1), 1);
});

void t.test('the chance of a sentence grows with the time, and with the tries that have one', async (t) => {
  const times = new SentenceTimes();
  for (let i = 0; i < 32; i += 1) {
    times.observe(200, true);
    times.observe(2000, false);
  }
  const before = times.chance(100);
  const behind = times.chance(300);
  t.ok(before < 0.1, `${before} before the first sentence`);
  t.ok(behind > 0.5 && behind < 0.6, `${behind} with half of the sentences`);
  t.equal(times.chance(10_000), behind, 'a try without a sentence says nothing of the time behind its end');
});

void t.test('a try that ended early is no late sentence', async (t) => {
  const times = new SentenceTimes();
  for (let i = 0; i < 20; i += 1) {
    times.observe(100, false);
    times.observe(400, true);
  }
  t.ok(times.chance(500) > 0.99);
  t.ok(times.chance(300) < 0.2);
});

void t.test('old tries are forgotten, and a few bad ones count little', async (t) => {
  const times = new SentenceTimes();
  times.observe(1000, false);
  t.ok(times.chance(900) >= 0.8);
  for (let i = 0; i < 64; i += 1) times.observe(1000, false);
  t.ok(times.chance(900) < 0.1);
  for (let i = 0; i < 64; i += 1) times.observe(10, true);
  t.ok(times.chance(900) > 0.99);
});

void t.test('a sentence is known once', async (t) => {
  const times = new SentenceTimes();
  for (let i = 0; i < 50; i += 1) {
    const first = new FirstSentence(times, 1000);
    first.known(true, 1200);
    first.known(false, 9000);
  }
  const asked = new FirstSentence(times, 5000);
  t.ok(asked.chanceBy(5201) > 0.99);
  t.ok(asked.chanceBy(5199) < 0.1);
});

const EXITS = [
  { layer: 10, accuracy: 0.5 },
  { layer: 20, accuracy: 0.7 },
  { layer: 30, accuracy: 1 },
];

void t.test('a local answer has the deepest exit whose sentence fits', async (t) => {
  t.equal(accuracyWithin(EXITS, 100, 90), 0.5, 'the shallowest one in any case');
  t.equal(accuracyWithin(EXITS, 100, 199), 0.5);
  t.equal(accuracyWithin(EXITS, 100, 200), 0.7);
  t.equal(accuracyWithin(EXITS, 100, 5000), 1);
});

void t.test('a net starts at once where more right answers are to be expected', async (t) => {
  const usual = { upstream: 1, early: 0.9, late: 0.5, chanceEarly: 0.5, chanceLate: 0.95, busy: 0 };
  t.equal(netStart(usual), 'latest', 'a reliable upstream');
  t.equal(netStart({ ...usual, chanceLate: 0.6 }), 'ahead');
  t.equal(netStart({ ...usual, chanceLate: 0.6, busy: 0.6 }), 'latest', 'the engine has other work');
  t.equal(netStart({ ...usual, chanceLate: 0.1, busy: 1 }), 'ahead', 'an upstream that is hardly ever in time');
  t.equal(netStart({ ...usual, chanceLate: 0, early: 0.5 }), 'latest', 'an early answer is no better');
  t.equal(netStart({ ...usual, upstream: 0.3 }), 'rival', 'the upstream is right less often');
  t.equal(netStart({ ...usual, upstream: 0.85, early: 0.9, chanceEarly: 0.9 }), 'latest', 'the gain is small');
});
