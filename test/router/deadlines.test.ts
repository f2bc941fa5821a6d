/** What each part of a budget asks for, when it is planned for and when it is judged. */
import t from 'tap';
import {
  type Budget,
  type RouterState,
  type SequenceState,
  isWithin,
  nothingLearned,
  replan,
} from '../../src/router/planner.js';
import { exactPolicy, noMargin } from './arbitrary.js';
import { layers, sample } from './sample.js';

const NOW = 1000;
const nothing: Budget = { totalMs: null, ttftMs: null, tpotMs: null, onMiss: 'continue' };

/** In the middle of an answer at full depth: 40 tokens of 80. */
function decoding(budget: Partial<Budget>): SequenceState {
  return {
    ...{ id: 'a', arrivedAt: 0, promptLength: 200, generated: 40, maxTokens: 80, minExit: 10, exit: 30, maxExit: 30 },
    ...{ budget: { ...nothing, ...budget }, promised: true, tokensAtExit: 40 },
    ...{ firstTokenAt: NOW - 39 * 4, lastTokenAt: NOW, frontier: layers.map(() => 239) },
  };
}

function planned(sequence: SequenceState): { exit: number; lost: number } {
  const learned = { ...nothingLearned, promises: noMargin, told: noMargin };
  const state: RouterState = { now: NOW, slots: 16, kvRoom: 1e6, live: [sequence], waiting: [], learned };
  const { exits, plan } = replan([sequence], state, sample, exactPolicy);
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
