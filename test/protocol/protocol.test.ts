/** The rules for what became of a request, and for whether an answer keeps its budget. */
import t from 'tap';
import {
  type BudgetTimes,
  type Ending,
  isKept,
  OUTCOMES,
  outcomeOf,
  worstOf,
  isWithin,
  timesOf,
  earlyEnd,
  hasNoEnd,
} from '../../src/protocol/outcome.js';
import { greedy, answerRequest } from '../../bench/greedy-request.js';
import type { OnMiss, SequenceRequest } from '../../src/protocol/index.js';
import { sequencesOf } from '../../src/protocol/request.js';

const none = { totalMs: null, ttftMs: null, tpotMs: null };

void t.test('an outcome follows from end, output and time', async (t) => {
  const cases: [Ending, number, string][] = [
    [{ end: 'whole' }, 100, 'whole'],
    [{ end: 'whole' }, 101, 'late'],
    [{ end: 'landed' }, 100, 'landed'],
    [{ end: 'landed' }, 101, 'late'],
    [{ end: 'cut' }, 101, 'cut'],
    [{ end: 'cut' }, 201, 'late'],
    [{ end: 'whole', isEmpty: true }, 50, 'empty'],
    [{ end: 'cut', isEmpty: true }, 999, 'empty'],
    [{ end: 'refused', isEmpty: true }, 0, 'refused'],
  ];
  for (const [ending, totalMs, outcome] of cases)
    t.equal(outcomeOf(ending, { ...none, totalMs }, { ...none, totalMs: 100 }), outcome, JSON.stringify(ending));
  t.equal(outcomeOf({ end: 'whole' }, { ...none, totalMs: 9 }, null), 'whole', 'no budget');
});

void t.test('only whole and landed answers keep a budget, and the worst choice counts', async (t) => {
  t.same(OUTCOMES.filter(isKept), ['whole', 'landed']);
  t.equal(worstOf(['landed', 'whole']), 'landed');
  t.equal(worstOf(['cut', 'late', 'whole']), 'cut');
  t.equal(worstOf([]), null);
});

void t.test('every stated part of a budget is judged, and nothing else', async (t) => {
  const finish = { arrivedAt: 100, firstTokenAt: 200, endedAt: 500, tokens: 11 };
  const limits: [Partial<BudgetTimes>, string][] = [
    [{}, 'whole'],
    [{ totalMs: 400, ttftMs: 100, tpotMs: 30, sentenceMs: 200 }, 'whole'],
    ...[{ totalMs: 399 }, { ttftMs: 99 }, { tpotMs: 29 }, { sentenceMs: 199 }].map((limit): [object, string] => [
      limit,
      'late',
    ]),
  ];
  for (const [limit, outcome] of limits) {
    const times = { ...timesOf(finish), sentenceMs: 200 };
    t.equal(outcomeOf({ end: 'whole' }, times, { ...none, ...limit }), outcome, JSON.stringify(limit));
  }
  t.ok(isWithin(timesOf({ ...finish, tokens: 1 }), { ...none, tpotMs: 1 }), 'one token has no TPOT');
});

void t.test('an answer that is cut at its deadline may be late by 250 ms, and by its budget at most', async (t) => {
  const isKept = (totalMs: number, budget: number): boolean =>
    isWithin({ ...none, totalMs }, { ...none, totalMs: budget }, true);
  t.same([isKept(1250, 1000), isKept(1251, 1000), isKept(10, 5), isKept(55, 5)], [true, false, true, false]);
});

// Which answers have an early end, and which biases leave them without one.

void t.test('an answer has no end where every end token lies far below another token', async (t) => {
  for (const [what, biases, isEndless, stopTokens = [1, 2]] of [
    ['no bias', {}, false],
    ['no end token', {}, true, []],
    ['all ends are forbidden', { 1: -100, 2: -100 }, true],
    ['one end is left', { 1: -100 }, false],
    ['another token always wins', { 7: 100 }, true],
    ['an end keeps up with it', { 7: 100, 2: 95 }, false],
    ['a small bias leaves the end its chance', { 7: 5 }, false],
    ['a forbidden word leaves it, too', { 7: -100 }, false],
  ] as const) {
    const logitBias = Object.entries(biases).map(([token, bias]) => [Number(token), bias] as const);
    t.equal(hasNoEnd({ stopTokens, sampling: { logitBias } }), isEndless, what);
  }
});

void t.test(
  'an answer may end early where its budget lands, its text may end anywhere and it has an end token',
  (t) => {
    const of = (onMiss: OnMiss, more: Partial<SequenceRequest> = {}): string => {
      const depth = { minExit: 1, maxExit: 1, budget: { totalMs: 500, ttftMs: null, tpotMs: null, onMiss } };
      return earlyEnd(greedy('a', [1], 1, 9, { stopTokens: [2], depth, ...more }));
    };
    const found = (['land', 'reject', 'truncate', 'continue'] as const).map((onMiss) => of(onMiss));
    t.same(found, ['possible', 'possible', 'off', 'off']);
    t.equal(earlyEnd(greedy('a', [1], 1, 9, { stopTokens: [2] })), 'off', 'no budget');
    t.equal(of('land', { grammar: { kind: 'regex', pattern: '.*' } }), 'grammar');
    t.equal(of('land', { stopTokens: [] }), 'exact_length');
    t.end();
  },
);

void t.test(
  'the sequences of an answer have their own prompt, length and seed, and share the rest by reference',
  (t) => {
    const stopTokens = [2];
    const first = greedy('a', [1, 2], 1, 9, { stopTokens, tenant: 'x' });
    const second = { ...first, id: 'b', prompt: [3], maxTokens: 4, sampling: { ...first.sampling, seed: 8 } };
    const request = answerRequest(first, second);
    const sequences = sequencesOf(JSON.parse(JSON.stringify(request)) as typeof request);
    t.same(sequences, [first, second]);
    t.equal(sequences[0]?.stopTokens, sequences[1]?.stopTokens);
    const [prompt] = request.prompts;
    const choices = ['a-0', 'a-1'].map((id) => ({ id, prompt: 0, maxTokens: 9, seed: null }));
    t.ok(sequencesOf({ ...request, sequences: choices }).every((each) => each.prompt === prompt));
    t.end();
  },
);
