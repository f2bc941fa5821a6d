/** Requests from a trace: what of it is taken, when they come and how long they are. */
import t from 'tap';
import { classesFor, requestsOf, seeded, type Scale } from '../../src/simulate/workload.js';

const trace = [
  { atMs: 0, promptTokens: 100, outputTokens: 10 },
  { atMs: 4000, promptTokens: 6000, outputTokens: 200 },
  { atMs: 9000, promptTokens: 1, outputTokens: 0 },
];
const classes = classesFor(2, 5);

const requests = (scale: Partial<Scale> = {}) =>
  requestsOf(trace, classes, { speed: 1, length: 1, limit: 500, maxLength: 8192, ...scale }, seeded(1));

void t.test('arrivals come faster, lengths grow, and the trace is cut from its end', async (t) => {
  t.same(
    requests({ speed: 4 }).map(({ arrivedAt }) => arrivedAt),
    [0, 1000, 2250],
  );
  t.same(
    requests({ length: 2 }).map(({ promptLength, tokens }) => [promptLength, tokens]),
    [
      [200, 20],
      [7792, 400],
      [2, 1],
    ],
    'a prompt leaves room for its answer, and each answer has a token',
  );
  t.same(
    requests({ maxLength: 50 }).map(({ promptLength, tokens }) => [promptLength, tokens]),
    [
      [40, 10],
      [1, 49],
      [1, 1],
    ],
  );
  t.equal(requests({ limit: 2 }).length, 2);
});

void t.test('budgets are by class: 50 ms, and a multiple of what full depth takes alone', async (t) => {
  const times = { tight: 2, medium: 4, loose: 10 };
  for (const { budgetClass, budget, promptLength, tokens } of requests()) {
    const multiple = times[budgetClass as keyof typeof times];
    t.equal(budget?.totalMs, 50 + multiple * (2 * promptLength + 5 * tokens), budgetClass);
  }
  const many = requestsOf(
    Array.from({ length: 3000 }, () => ({ atMs: 0, promptTokens: 1, outputTokens: 1 })),
    classes,
    { speed: 1, length: 1, limit: 3000, maxLength: 8192 },
    seeded(1),
  );
  for (const name of Object.keys(times)) {
    const share = many.filter(({ budgetClass }) => budgetClass === name).length / many.length;
    t.ok(Math.abs(share - 1 / 3) < 0.05, `${name}: ${share}`);
  }
});
