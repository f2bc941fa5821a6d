/** The rules for what became of a request, and for whether an answer keeps its budget. */
import t from 'tap';
import { type Ending, isKept, OUTCOMES, outcomeOf, worstOf, isWithin, timesOf } from '../../src/protocol/outcome.js';

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
  t.ok(isWithin(timesOf(finish), null));
  t.ok(isWithin(timesOf(finish), none));
  t.ok(isWithin(timesOf(finish), { ...none, totalMs: 400, ttftMs: 100, tpotMs: 30 }), 'just in time for all');
  t.notOk(isWithin(timesOf(finish), { ...none, totalMs: 399 }));
  t.notOk(isWithin(timesOf(finish), { ...none, ttftMs: 99 }));
  t.notOk(isWithin(timesOf(finish), { ...none, tpotMs: 29 }));
  t.ok(isWithin(timesOf({ ...finish, tokens: 1 }), { ...none, tpotMs: 1 }), 'one token has no TPOT');
});

void t.test('an answer that is cut at its deadline may be late by 250 ms, and by its budget at most', async (t) => {
  const isKept = (totalMs: number, budget: number): boolean =>
    isWithin({ ...none, totalMs }, { ...none, totalMs: budget }, true);
  t.same([isKept(1250, 1000), isKept(1251, 1000), isKept(10, 5), isKept(55, 5)], [true, false, true, false]);
});
