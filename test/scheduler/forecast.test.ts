/** The forecast of a batch: its times to the millisecond, and its progress for any input. */
import fc from 'fast-check';
import t from 'tap';
import { type BatchEntry, type BatchOutcome, forecastBatch } from '../../src/engine/scheduler/forecast.js';
import { holds, runs } from './arbitrary.js';

/** A step takes 3 ms for one row at exit 0, and 8 ms for one at exit 1. */
const costs = [
  { rowMs: 1, fixedMs: 2 },
  { rowMs: 2, fixedMs: 6 },
];
/** A row at exit 0 with ten tokens to go. */
const row = (more: Partial<BatchEntry> = {}): BatchEntry => {
  return {
    ...{ dueAt: Infinity, leavesAt: Infinity, promisedBy: Infinity, guaranteedTokens: Infinity },
    ...{ exit: 0, prefillMs: 0, chunks: 1, tokens: 10, hasSlot: true },
    ...more,
  };
};
/** Two chunks of 20 ms, then ten tokens at exit 0. */
const prompt = (more: Partial<BatchEntry> = {}): BatchEntry => row({ prefillMs: 40, chunks: 2, ...more });
const shown = ({ tokens, firstTokenAt, endsAt }: BatchOutcome): string =>
  [tokens, firstTokenAt, endsAt].map((each) => (each === Infinity ? '-' : Math.round(each * 1e6) / 1e6)).join(' ');

/** Tokens, first token and end of each entry; "-": never. */
const cases: readonly (readonly [string, readonly BatchEntry[], number, string])[] = [
  ['a row takes a step for each token', [row()], 9, '10 - 30'],
  [
    'rows share the deepest exit of a step, and each adds its own',
    [row(), row({ exit: 1, tokens: 20 })],
    9,
    '10 - 90, 20 - 170',
  ],
  ['a prompt alone runs its chunks without steps between', [prompt()], 9, '10 43 70'],
  ['rows decode one token beside each chunk', [row(), prompt()], 9, '10 - 78, 10 50 84'],
  [
    'prompts go one after the other by their deadlines',
    [prompt({ dueAt: 200, tokens: 1 }), prompt({ dueAt: 100, tokens: 1 })],
    9,
    '1 86 86, 1 43 63',
  ],
  [
    'of equal deadlines the first one goes first',
    [prompt({ tokens: 1 }), prompt({ tokens: 1 })],
    9,
    '1 43 63, 1 86 86',
  ],
  ['a prompt without a slot waits for the end of a row', [row(), prompt({ hasSlot: false })], 1, '10 - 30, 10 73 100'],
  [
    'a prompt that holds a slot goes before an earlier deadline without one',
    [prompt({ dueAt: 200, tokens: 1 }), prompt({ dueAt: 100, tokens: 1, hasSlot: false })],
    1,
    '1 43 43, 1 86 86',
  ],
  ['a prompt whose prefix is there takes its slot at once', [prompt({ prefillMs: 0, hasSlot: false })], 1, '10 3 30'],
  ['a row leaves at its deadline', [row({ leavesAt: 15 })], 9, '5 - 15'],
  ['a row past its deadline is over', [row({ leavesAt: -5 })], 9, '0 - 0'],
  [
    'a prompt that no time is left for holds up none',
    [prompt({ dueAt: 1, leavesAt: 39 }), prompt({ dueAt: 2 })],
    9,
    '0 - 39, 10 43 70',
  ],
  [
    'a slot of a prompt that leaves is free',
    [prompt({ dueAt: 1, leavesAt: 39 }), prompt({ dueAt: 2, hasSlot: false })],
    1,
    '0 - 39, 10 43 70',
  ],
  [
    'a prompt takes no time that an older promise needs, and waits until that is covered',
    [row({ dueAt: 45, promisedBy: 45, guaranteedTokens: 10 }), prompt()],
    9,
    '10 - 35.263158, 10 73 100',
  ],
  [
    'a prompt that is due before a promise does not wait for it',
    [row({ dueAt: 45, promisedBy: 45, guaranteedTokens: 10 }), prompt({ dueAt: 44 })],
    9,
    '10 - 78, 10 50 84',
  ],
  [
    'a promise that is late anyway holds up no prompt',
    [row({ dueAt: 20, promisedBy: 20, guaranteedTokens: 10 }), prompt()],
    9,
    '10 - 78, 10 50 84',
  ],
  ['a request without tokens ends with its prompt', [prompt({ tokens: 0 })], 9, '0 43 40'],
  ['without a slot no request begins', [prompt({ hasSlot: false, leavesAt: 90 })], 0, '0 - 90'],
  ['no request at all', [], 9, ''],
];
for (const [name, entries, slots, expected] of cases) {
  void t.test(name, async (t) => {
    t.equal(forecastBatch(entries, slots, costs).map(shown).join(', '), expected);
  });
}

const ms = (max: number) => fc.double({ min: 0, max, noNaN: true });
const entry: fc.Arbitrary<BatchEntry> = fc.record({
  dueAt: fc.oneof(ms(10_000), fc.constant(Infinity)),
  leavesAt: fc.oneof(fc.double({ min: -100, max: 10_000, noNaN: true }), fc.constant(Infinity)),
  exit: fc.nat(1),
  prefillMs: fc.oneof(fc.constant(0), ms(1e-6), ms(5_000)),
  chunks: fc.integer({ min: 1, max: 40 }),
  tokens: fc.oneof(fc.nat(300), ms(300)),
  guaranteedTokens: fc.constant(Infinity),
  promisedBy: fc.constant(Infinity),
  hasSlot: fc.boolean(),
});
const entries = fc.array(entry, { maxLength: 24 });
const anyCosts = fc.array(fc.record({ rowMs: ms(10), fixedMs: ms(50) }), { minLength: 2, maxLength: 2 });

void t.test('for any input the forecast ends, and each request by its end, its deadline or both', async () => {
  fc.assert(
    fc.property(entries, fc.integer({ min: 1, max: 8 }), anyCosts, (all, slots, prices) => {
      const outcomes = forecastBatch(all, slots, prices);
      const stepMs =
        Math.max(...prices.map(({ fixedMs }) => fixedMs)) +
        all.length * Math.max(...prices.map(({ rowMs }) => rowMs)) +
        1e-6;
      const workMs = all.reduce(
        (sum, { prefillMs, tokens, chunks }) => sum + prefillMs + (tokens + chunks) * stepMs,
        1e-3,
      );
      if (outcomes.length !== all.length) throw new Error('a request is lost');
      outcomes.forEach(({ tokens, firstTokenAt, endsAt }, i) => {
        const { tokens: wanted, leavesAt, prefillMs } = all[i] ?? row();
        const lateMs = endsAt - Math.max(0, leavesAt);
        if (!(endsAt >= 0 && lateMs <= 1e-3)) throw new Error(`it ends at ${endsAt}, ${lateMs} ms late`);
        if (endsAt > workMs && lateMs < -1e-3) throw new Error(`it ends at ${endsAt}, all work takes ${workMs}`);
        if (!(tokens >= 0 && tokens <= wanted + 1e-3)) throw new Error(`${tokens} of ${wanted} tokens`);
        if (tokens < wanted - 1e-3 && lateMs < -1e-3) throw new Error(`it ends after ${tokens} of ${wanted} tokens`);
        if (firstTokenAt < prefillMs - 1e-3) throw new Error(`a first token at ${firstTokenAt}, of ${prefillMs} ms`);
        if (tokens > 1e-3 && prefillMs > 0 && firstTokenAt === Infinity) throw new Error('tokens without a first one');
      });
    }),
    { ...runs, numRuns: 1000 },
  );
});

void t.test('with slots for all, first tokens come in the order of the deadlines', async () => {
  const stays = entries.map((all) =>
    all.map((each) => ({ ...each, leavesAt: Infinity, prefillMs: each.prefillMs + 1 })),
  );
  fc.assert(
    fc.property(stays, (all) => {
      const outcomes = forecastBatch(all, all.length, costs);
      const order = all.map((each, i) => [each.dueAt, outcomes[i]?.firstTokenAt ?? NaN] as const);
      for (const [dueAt, firstTokenAt] of order) {
        for (const [laterDue, laterFirst] of order)
          if (dueAt < laterDue && firstTokenAt >= laterFirst + 50 + 10 * all.length)
            throw new Error(`due at ${dueAt}: ${firstTokenAt}, due at ${laterDue}: ${laterFirst}`);
      }
    }),
    runs,
  );
});

holds(
  'the sum of the work is done, whatever the order of the requests',
  fc.array(fc.record({ prefillMs: ms(500), dueAt: ms(100) }), { minLength: 1, maxLength: 9 }),
  (some) => {
    const all = some.map((each) => prompt({ ...each, prefillMs: each.prefillMs + 1, tokens: 0 }));
    const last = Math.max(...forecastBatch(all, 1, costs).map(({ endsAt }) => endsAt));
    const sum = all.reduce((so, { prefillMs }) => so + prefillMs, 0);
    return Math.abs(last - sum) < 1e-3;
  },
);
