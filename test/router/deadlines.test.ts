/** What each part of a budget asks for, when it is planned for and when it is judged. */
import t from 'tap';
import { type Budget, type SequenceState, isWithin } from '../../src/router/planner.js';
import { decoding as answer, nothing, NOW, planOf } from './decoding.js';
import { layers } from './sample.js';

/** In the middle of an answer, with 4 ms a token so far. */
const decoding = (budget: Partial<Budget>) => answer('a', budget, { firstTokenAt: NOW - 39 * 4 });

function planned(sequence: SequenceState): { exit: number; lost: number } {
  const { exits, plan } = planOf([sequence]);
  return { exit: exits[0]?.exit ?? sequence.exit, lost: plan.agenda.lost.size };
}

void t.test('every part that is stated is judged, and nothing else', async (t) => {
  const finish = { arrivedAt: 100, firstTokenAt: 200, endedAt: 500, tokens: 11 };
  t.ok(isWithin(null, finish));
  t.ok(isWithin({ ...nothing, totalMs: 400, ttftMs: 100, tpotMs: 30 }, finish), 'just in time for all');
  t.notOk(isWithin({ ...nothing, totalMs: 399 }, finish));
  t.notOk(isWithin({ ...nothing, ttftMs: 99 }, finish));
  t.notOk(isWithin({ ...nothing, tpotMs: 29 }, finish));
  t.ok(isWithin({ ...nothing, tpotMs: 1 }, { ...finish, tokens: 1 }), 'one token has no pace');
});

void t.test('a pace bends depth as a total does', async (t) => {
  t.equal(planned(decoding({ tpotMs: 20 })).exit, 30);
  const { exit, lost } = planned(decoding({ tpotMs: 4.6 }));
  t.equal(lost, 0, 'shallower, it can be held');
  t.ok(exit < 30, `${exit}`);
});

void t.test('what was preempted after its first token is not given up for that token', async (t) => {
  const preempted = { ...decoding({ totalMs: 20_000, ttftMs: 100 }), firstTokenAt: 90, frontier: layers.map(() => 0) };
  t.strictSame(planned(preempted), { exit: 30, lost: 0 });
});
