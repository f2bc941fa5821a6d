/** The pure parts of nets: the account, the margin, the breaker, and the faults that start one. */
import fc from 'fast-check';
import t from 'tap';
import type { PromisedPart } from '../../src/protocol/index.js';
import { latestStarts } from '../../src/protocol/latest-starts.js';
import { Breaker } from '../../src/gateway/upstream/breaker.js';
import { NetAccount } from '../../src/gateway/upstream/net-account.js';
import { NetMargin } from '../../src/gateway/upstream/net-margin.js';
import { barOf, isNetted } from '../../src/gateway/upstream/net-policy.js';
import type { UpstreamCall } from '../../src/gateway/upstream/call.js';
import { netStart, accuracyWithin } from '../../src/gateway/upstream/early-start.js';
import { FirstSentence, SentenceTimes } from '../../src/gateway/upstream/sentence-times.js';

const net = (dueAt: number, figures: Partial<PromisedPart> = {}): PromisedPart => ({
  dueAt,
  sentenceMs: 100,
  prefillMs: 15,
  fullMs: 20,
  besideMs: 5,
  ...figures,
});

void t.test('a lone net starts so that its sentence ends in time', async (t) => {
  t.same(latestStarts([net(1000)], 8), [900]);
});

void t.test('nets that are due together start one part after the other', async (t) => {
  // Each takes 105 ms beside the other one, and waits for the prompt of the other one.
  t.same(latestStarts([net(1000), net(1000)], 8), [880, 895]);
  // One slot has no rows beside.
  t.same(latestStarts([net(1000), net(1000)], 1), [880, 900]);
});

void t.test('a net that is due much later takes the time of its prompt alone', async (t) => {
  // Its prompt may run beside.
  t.equal(latestStarts([net(1000), net(9000)], 8)[0], 880);
});

const part = fc.record({
  dueAt: fc.integer({ min: 0, max: 5000 }),
  prefillMs: fc.integer({ min: 1, max: 300 }),
  tokens: fc.integer({ min: 1, max: 40 }),
});

/** Milliseconds of a step: a fixed part, and a part for each row. */
const FIXED_MS = 4;
const ROW_MS = 2;

interface Job {
  readonly dueAt: number;
  readonly prefillMs: number;
  readonly tokens: number;
}

/** Whether an engine that prefills by deadline, then decodes all rows together, ends all jobs in time. */
function isInTime(jobs: readonly Job[], startAt: number, slots: number): boolean {
  const waiting = [...jobs];
  let at = startAt;
  let rows: { job: Job; left: number }[] = [];
  while (waiting.length + rows.length > 0) {
    while (rows.length < slots && waiting.length > 0) {
      const job = waiting.shift();
      if (job === undefined) break;
      at += job.prefillMs;
      rows.push({ job, left: job.tokens });
    }
    at += FIXED_MS + ROW_MS * rows.length;
    rows = rows.map(({ job, left }) => ({ job, left: left - 1 }));
    if (rows.some(({ job, left }) => left === 0 && at > job.dueAt + 1e-6)) return false;
    rows = rows.filter(({ left }) => left > 0);
  }
  return true;
}

void t.test('an engine with a slot for each net is in time, from any latest start on', (t) => {
  fc.assert(
    fc.property(fc.array(part, { minLength: 1, maxLength: 12 }), fc.integer({ min: 12, max: 32 }), (jobs, slots) => {
      const due = [...jobs].sort((a, b) => a.dueAt - b.dueAt);
      const parts = due.map(({ dueAt, prefillMs, tokens }): PromisedPart => ({
        ...{ dueAt, prefillMs, besideMs: tokens * ROW_MS },
        sentenceMs: prefillMs + tokens * (FIXED_MS + ROW_MS),
        fullMs: prefillMs + (tokens * (FIXED_MS + ROW_MS * slots)) / slots,
      }));
      const starts = latestStarts(parts, slots);
      const isRising = starts.every((start, i) => i === 0 || start >= (starts[i - 1] ?? Infinity));
      // The latest start of a net has all that are due later at once.
      return isRising && due.every((_, i) => isInTime(due.slice(i), starts[i] ?? NaN, slots));
    }),
  );
  t.end();
});

const IDLE = { now: 0, slots: 8 };

void t.test('the account books as many nets as fit, and moves the starts of the others', async (t) => {
  const account = new NetAccount();
  const moved = new Set<number>();
  const booked = Array.from({ length: 100 }, (_, i) =>
    account.book([net(2000 + i / 100)], { now: 0, slots: 8 }, () => moved.add(i)),
  );
  const count = booked.filter((each) => each !== null).length;
  t.ok(count >= 90 && count < 100, `${count} nets of 20 ms in 2 s`);
  t.equal(account.count, count);
  t.ok((booked[0]?.latestStart ?? -1) >= 0, 'the first one starts earlier, and not in the past');
  t.ok((booked[0]?.latestStart ?? Infinity) < 100);
  t.ok(moved.has(0));
  for (const each of booked.slice(0, 50)) each?.end();
  t.not(
    account.book([net(2000)], IDLE, () => undefined),
    null,
    'ends give their parts back',
  );
  t.equal(
    account.book([net(50)], IDLE, () => undefined),
    null,
    'a net without time of its own is none',
  );
});

void t.test('a running net keeps its part from the others', async (t) => {
  const account = new NetAccount();
  const running = account.book([net(2000, { prefillMs: 1000, fullMs: 1000, sentenceMs: 1000 })], IDLE, () => undefined);
  running?.began(0);
  const other = account.book([net(2000, { prefillMs: 900, fullMs: 900, sentenceMs: 900 })], IDLE, () => undefined);
  t.not(other, null, 'the forecast of a new net has the running one');
  t.equal(
    account.book([net(2000, { prefillMs: 300, fullMs: 300, sentenceMs: 300 })], IDLE, () => undefined),
    null,
    'the third has none',
  );
  running?.end();
  t.not(
    account.book([net(2000, { prefillMs: 300, fullMs: 300, sentenceMs: 300 })], IDLE, () => undefined),
    null,
  );
});

void t.test('a booking takes the place of another one', async (t) => {
  const account = new NetAccount();
  const moved = (): void => undefined;
  const long = { prefillMs: 1500, fullMs: 1500, sentenceMs: 1500 };
  const first = account.book([net(2000, long)], IDLE, moved);
  t.equal(account.book([net(2000, long)], IDLE, moved), null, 'both do not fit');
  const second = account.book([net(2000, long)], IDLE, moved, first);
  t.ok(second);
  t.equal(account.count, 1);
  first?.end();
  t.equal(account.count, 1, 'the first one has ended');
  second?.end();
  t.equal(account.count, 0);
});

void t.test('a promise to a request of no net keeps its part from nets', async (t) => {
  const direct = [net(1000, { prefillMs: 900, fullMs: 900, sentenceMs: 900 })];
  const booked = (prefillMs: number) =>
    new NetAccount().book([net(1100, { prefillMs })], { ...IDLE, direct }, () => undefined);
  t.equal(booked(200), null, 'the prompt of the net would make the promise late');
  t.not(booked(15), null);
});

void t.test('beside many nets, a refusal holds for a moment, and no answer without a promise begins', async (t) => {
  const account = new NetAccount();
  const book = () =>
    account.book(
      [{ dueAt: 10_000, sentenceMs: 100, prefillMs: 10, fullMs: 10, besideMs: 0 }],
      { now: 0, slots: 8 },
      () => undefined,
    );
  account.refused(5000, 0);
  t.notOk(account.isRefused(5000, 1), 'few nets');
  for (let i = 0; i < 3; i += 1) t.ok(book());
  const end = account.try();
  t.ok(end);
  t.equal(account.try(), null);
  end?.();
  t.ok(account.try());
  const last = book();
  account.refused(5000, 100);
  t.ok(account.isRefused(5000, 110));
  t.ok(account.isRefused(4000, 110));
  t.notOk(account.isRefused(5100, 110), 'it is due later');
  t.notOk(account.isRefused(5000, 160), 'a moment later');
  last?.end();
});

void t.test('the margin rises with a late net, and falls with those in time', async (t) => {
  const margin = new NetMargin();
  const work = { sentenceMs: 1000, prefillMs: 100, fullMs: 200, besideMs: 10 };
  const partNow = (): PromisedPart => {
    const [part] = margin.parts(work, 5000, 1);
    if (part === undefined) throw new Error('no part');
    return part;
  };
  const timeOf = (): number => partNow().sentenceMs;
  const first = timeOf();
  t.ok(first > 1000 && first < 1500, `${first} ms of 1000`);
  margin.observe(false);
  t.ok(timeOf() > first + 90);
  const both = margin.parts(work, 5000, 2);
  t.ok(
    both.every((each) => each.sentenceMs < timeOf()),
    'a choice alone',
  );
  t.same(
    both.map(({ prefillMs }) => prefillMs > 0),
    [true, false],
    'the choices share their prompt',
  );
  const { sentenceMs, ...part } = partNow();
  t.ok(part.fullMs / work.fullMs > sentenceMs / work.sentenceMs, 'it is on all work, and more beside others');
  t.ok(part.dueAt < 5000);
  for (let i = 0; i < 1000; i += 1) margin.observe(true);
  t.ok(timeOf() < first);
  for (let i = 0; i < 100; i += 1) margin.observe(false);
  t.ok(timeOf() <= 2000, 'it is bounded');
});

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
