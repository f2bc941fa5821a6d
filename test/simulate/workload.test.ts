/** Requests from a trace: selection, arrivals and lengths. */
import t from 'tap';
import { requestsOf, type Limits, type Scale } from '../simulator/workload.js';
import { seeded } from '../../src/util/random.js';

const trace = [
  { atMs: 0, promptTokens: 100, outputTokens: 10 },
  { atMs: 4000, promptTokens: 6000, outputTokens: 200 },
  { atMs: 9000, promptTokens: 1, outputTokens: 0 },
];
const times = { perPromptToken: 2, perOutputToken: 5 };

const EXITS = 3;

const requests = (scale: Partial<Scale> = {}, limits: Limits = 'unstated') =>
  requestsOf(trace, times, { speed: 1, length: 1, limit: 500, maxLength: 8192, ...scale }, seeded(1), EXITS, limits);

void t.test('requestsOf scales arrivals and lengths, and cuts the end of the trace', async (t) => {
  t.same(
    requests({ speed: 4 }).map(({ arrivedAt }) => arrivedAt),
    [0, 1000, 2250],
  );
  t.same(
    requests({ length: 2 }).map(({ promptLength, lengths }) => [promptLength, ...new Set(lengths)]),
    [
      [200, 20],
      [7792, 400],
      [2, 1],
    ],
    'a prompt leaves room for its answer, and each answer has at least one token',
  );
  t.same(
    requests({ maxLength: 50 }).map(({ promptLength, lengths }) => [promptLength, ...new Set(lengths)]),
    [
      [40, 10],
      [1, 49],
      [1, 1],
    ],
  );
  t.equal(requests({ limit: 2 }).length, 2);
});

void t.test('the budget of a class is 50 ms plus a multiple of the time of full depth', async (t) => {
  const multiples = { tight: 2, medium: 4, loose: 10 };
  for (const { budgetClass, budget, promptLength, lengths } of requests()) {
    const multiple = multiples[budgetClass as keyof typeof multiples];
    t.equal(budget?.totalMs, 50 + multiple * (2 * promptLength + 5 * (lengths[0] ?? NaN)), budgetClass);
  }
  const many = requestsOf(
    Array.from({ length: 3000 }, () => ({ atMs: 0, promptTokens: 1, outputTokens: 1 })),
    times,
    { speed: 1, length: 1, limit: 3000, maxLength: 8192 },
    seeded(1),
    EXITS,
    'unstated',
  );
  for (const name of Object.keys(multiples)) {
    const share = many.filter(({ budgetClass }) => budgetClass === name).length / many.length;
    t.ok(Math.abs(share - 1 / 3) < 0.05, `${name}: ${share}`);
  }
});

void t.test('the budgets of a log replace the classes, and its other requests have none', async (t) => {
  const logged = trace.map((entry, i) => ({
    ...entry,
    budget: i === 1 ? { totalMs: 700, ttftMs: null, tpotMs: 50 } : null,
  }));
  const scale = { speed: 1, length: 2, limit: 500, maxLength: 8192 };
  const all = requestsOf(logged, times, scale, seeded(1), EXITS, 'unstated');
  const budget = { totalMs: 700, ttftMs: null, tpotMs: 50, onMiss: 'land' };
  t.same(
    all.map((request) => [request.budgetClass, request.budget]),
    [
      ['none', null],
      ['logged', budget],
      ['none', null],
    ],
  );
  const none = trace.map((entry) => ({ ...entry, budget: null }));
  const made = requestsOf(none, times, scale, seeded(1), EXITS, 'unstated');
  t.ok(
    made.every((request) => request.budget !== null),
    'a log without any budget gets the classes',
  );
});

void t.test('every exit has the length of the trace, and only stated limits give it to the scheduler', async (t) => {
  for (const limits of ['stated', 'unstated'] as const) {
    const all = requests({}, limits);
    t.same(
      all.map(({ lengths }) => lengths),
      [10, 200, 1].map((tokens) => new Array<number>(EXITS).fill(tokens)),
    );
    t.same(
      all.map(({ maxTokens, isExactLength }) => [maxTokens, isExactLength]),
      limits === 'stated'
        ? [10, 200, 1].map((tokens) => [tokens, true])
        : all.map(({ promptLength }) => [8192 - promptLength, false]),
    );
  }
  t.same(
    requests({ maxLength: 50 }).map(({ maxTokens }) => maxTokens),
    [10, 49, 49],
    'no answer exceeds the longest sequence',
  );
});
