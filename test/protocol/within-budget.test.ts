/** The one rule for whether an answer keeps its budget. */
import t from 'tap';
import { isWithin, timesOf } from '../../src/protocol/within-budget.js';

const unstated = { totalMs: null, ttftMs: null, tpotMs: null };

void t.test('every stated part of a budget is judged, and nothing else', async (t) => {
  const finish = { arrivedAt: 100, firstTokenAt: 200, endedAt: 500, tokens: 11 };
  t.ok(isWithin(timesOf(finish), null));
  t.ok(isWithin(timesOf(finish), unstated));
  t.ok(isWithin(timesOf(finish), { ...unstated, totalMs: 400, ttftMs: 100, tpotMs: 30 }), 'just in time for all');
  t.notOk(isWithin(timesOf(finish), { ...unstated, totalMs: 399 }));
  t.notOk(isWithin(timesOf(finish), { ...unstated, ttftMs: 99 }));
  t.notOk(isWithin(timesOf(finish), { ...unstated, tpotMs: 29 }));
  t.ok(isWithin(timesOf({ ...finish, tokens: 1 }), { ...unstated, tpotMs: 1 }), 'one token has no TPOT');
});

void t.test('an answer that is cut at its deadline may be late by 250 ms, and by its budget at most', async (t) => {
  const isKept = (totalMs: number, budget: number): boolean =>
    isWithin({ ...unstated, totalMs }, { ...unstated, totalMs: budget }, true);
  t.same([isKept(1250, 1000), isKept(1251, 1000), isKept(10, 5), isKept(55, 5)], [true, false, true, false]);
});
