/** The pure parts of nets: the breaker, the faults that start one, and early starts. */
import t from 'tap';
import { Breaker } from '../../src/gateway/upstream/breaker.js';
import { barOf, isNetted } from '../../src/gateway/upstream/local-request.js';
import type { UpstreamCall } from '../../src/gateway/upstream/call.js';
import { EarlyStarts } from '../../src/gateway/upstream/early-start.js';

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

/** Early starts among so many answers of a tenant. */
function startsOf(early: EarlyStarts, tenant: string, answers: number, isBreach: (i: number) => boolean): number {
  let starts = 0;
  for (let i = 0; i < answers; i += 1) {
    if (early.isEarly(tenant)) starts += 1;
    early.observe(tenant, isBreach(i));
  }
  return starts;
}

void t.test('nets start beside an upstream that is late in more than a tenth of its answers', async (t) => {
  const early = new EarlyStarts();
  t.equal(
    startsOf(early, 'a', 100, () => false),
    0,
    'a reliable upstream',
  );
  t.equal(
    startsOf(early, 'a', 200, (i) => i % 20 === 10),
    0,
    'one of twenty is late',
  );
  const first = startsOf(early, 'a', 10, () => true);
  const later = startsOf(early, 'a', 20, () => true);
  t.ok(first >= 3 && first <= 8, `${first} of the first ten`);
  t.ok(later >= 19, `${later} of the next twenty`);
  t.equal(
    startsOf(early, 'b', 100, () => false),
    0,
    'the answers of one tenant start no other nets',
  );
  startsOf(early, 'a', 20, () => false);
  const back = startsOf(early, 'a', 20, () => false);
  t.ok(back > 0 && back < 12, `${back} of twenty on the way back`);
  t.equal(
    startsOf(early, 'a', 40, () => false),
    0,
    'and none behind it',
  );
});

void t.test('early starts forget the idlest of too many tenants', async (t) => {
  const early = new EarlyStarts();
  startsOf(early, 'a', 20, () => true);
  for (let i = 0; i < 1000; i += 1) early.observe(`other ${i}`, false);
  t.notOk(early.isEarly('a'));
});
