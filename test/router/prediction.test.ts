/** What a caller is told that is taken: an exit and times that fit together, and that the next plan bears out. */
import t from 'tap';
import {
  type Budget,
  type CostModel,
  type RouterState,
  type SequenceState,
  type WaitingRequest,
  admitAll,
  nothingLearned,
  replan,
} from '../../src/router/planner.js';
import { admit } from './alone.js';
import { exactPolicy } from './arbitrary.js';
import { layers, sample } from './sample.js';

const NOW = 1000;
const TOKENS = 50;
const idle: RouterState = { now: NOW, slots: 16, kvRoom: 1e6, live: [], waiting: [], learned: nothingLearned };

/** Answers take as many times their forecast, and first tokens theirs. */
const experience = (total: number, ttft = 1) => ({
  ...nothingLearned,
  ...{ total: { weights: [Math.log(total)] }, ttft: { weights: [Math.log(ttft)] } },
});

function asks(totalMs: number | null, onMiss: Budget['onMiss'] = 'continue'): WaitingRequest {
  return {
    ...{ id: 'new', arrivedAt: NOW, promptLength: 200, generated: 0, maxTokens: TOKENS },
    ...{ minExit: 10, exit: 30, maxExit: 30 },
    budget: totalMs === null ? null : { totalMs, ttftMs: null, tpotMs: null, onMiss },
  };
}

/** In the middle of an answer at full depth. */
function decoding(id: string, totalMs: number): SequenceState {
  return {
    ...{ ...asks(totalMs), id, arrivedAt: 0, generated: 10, firstTokenAt: 900, lastTokenAt: NOW, tokensAtExit: 10 },
    frontier: layers.map(() => 209),
  };
}

function told(request: WaitingRequest, state: Partial<RouterState> = {}, model: CostModel = sample) {
  const admission = admit(request, { ...idle, ...state }, model, exactPolicy);
  if (admission.kind === 'refuse') throw new Error('it was to be taken');
  return admission;
}

void t.test('times count from arrival, not from admission', async (t) => {
  const soon = told(asks(null)).outlook;
  const late = told({ ...asks(null), arrivedAt: NOW - 400 }).outlook;
  t.equal(late.total.forecastMs, soon.total.forecastMs + 400);
  t.equal(late.ttft.forecastMs, soon.ttft.forecastMs + 400);
});

void t.test('first token, pace and total fit together, the total cut to what is promised as well', async (t) => {
  for (const [request, learned] of [
    [asks(null), nothingLearned],
    [asks(900, 'reject'), experience(3)],
    [asks(900, 'reject'), experience(3, 3)],
  ] as const) {
    const { ttftMs, tpotMs, totalMs } = told(request, { learned }).prediction;
    t.ok(ttftMs > 0 && tpotMs > 0, `${ttftMs} and ${tpotMs}`);
    t.ok(Math.abs(ttftMs + tpotMs * (TOKENS - 1) - totalMs) < 1e-6, `${ttftMs}, ${tpotMs}, ${totalMs}`);
  }
});

void t.test('no first token is predicted after the end, whatever was learnt of either', async (t) => {
  const { ttftMs, tpotMs, totalMs } = told(asks(null), { learned: experience(0.3, 4) }).prediction;
  t.ok(ttftMs <= totalMs, `${ttftMs} of ${totalMs}`);
  t.ok(tpotMs > 0, 'later tokens take time');
});

void t.test(
  'a long prompt with a short answer gets no pace that no step has, whatever was learnt of either',
  async (t) => {
    const request = { ...asks(null), promptLength: 4000, maxTokens: 4 };
    const expected = told(request, { learned: experience(1) }).prediction.tpotMs;
    for (const [total, ttft] of [
      [1.2, 0.6],
      [0.6, 1.2],
      [3, 0.3],
    ] as const) {
      const { ttftMs, tpotMs, totalMs } = told(request, { learned: experience(total, ttft) }).prediction;
      t.ok(tpotMs > (expected * total) / 2.1 && tpotMs < expected * total * 2.1, `${tpotMs} ms beside ${expected}`);
      t.ok(Math.abs(ttftMs + tpotMs * 3 - totalMs) < 1e-6, `${ttftMs}, ${tpotMs}, ${totalMs}`);
    }
  },
);

void t.test('an answer of one token has no pace', async (t) => {
  t.equal(told({ ...asks(null), maxTokens: 1 }).prediction.tpotMs, 0);
});

void t.test('what is not promised is predicted as it will be, not as it was asked for', async (t) => {
  const { feasible, prediction } = told(asks(50), { learned: experience(1) });
  t.notOk(feasible);
  t.ok(prediction.totalMs > 100, `${prediction.totalMs}`);
});

void t.test('what no depth can make is predicted at the least depth: nothing gives way below it', async (t) => {
  const pinned = told({ ...asks(null), exit: 10, maxExit: 10 }).outlook.total.aloneMs;
  for (const budget of [1, 20, 50]) {
    const { feasible, exit, prediction } = told(asks(budget));
    t.notOk(feasible);
    t.equal(exit, 10);
    t.ok(prediction.totalMs >= pinned, `${prediction.totalMs} of ${pinned}`);
    t.ok(prediction.tpotMs > 0, 'later tokens take time');
  }
});

void t.test('what will be cut at its deadline is over then, and no faster for it', async (t) => {
  const late = told(asks(50));
  const cut = told(asks(50, 'truncate'));
  t.notOk(cut.feasible);
  t.equal(cut.prediction.totalMs, 50);
  t.ok(cut.prediction.ttftMs <= 50);
  t.equal(cut.prediction.tpotMs, late.prediction.tpotMs);
});

void t.test('those who arrive just now are no sign of more to come', async (t) => {
  const burst = Array.from({ length: 4 }, (_, i) => ({ ...asks(5000), id: `r${i}` }));
  for (const admission of admitAll(burst, idle, sample, exactPolicy)) {
    t.match(admission, { kind: 'admit', outlook: { total: { coming: 0 }, ttft: { coming: 0 } } });
  }
});

void t.test('the pace that others get lately is expected beside them, and not by whoever is alone', async (t) => {
  const slow = { ...sample, correction: { ...sample.correction, paceMs: 100 } };
  const live = [decoding('a', 60_000)];
  const forecast = (state: Partial<RouterState>, model: CostModel): number =>
    told(asks(null), state, model).outlook.total.forecastMs;
  t.ok(forecast({ live }, slow) > 1.5 * forecast({ live }, sample));
  t.equal(forecast({}, slow), forecast({}, sample));
});

void t.test('the exit that a request is told is the one that it begins with: depth in force stays', async (t) => {
  const live = Array.from({ length: 8 }, (_, i) => decoding(`live${i}`, 2200));
  const request = asks(800);
  const { exit } = told(request, { live });
  const taken = { ...request, exit, frontier: layers.map(() => 0) };
  const all = [...live, { ...taken, firstTokenAt: null, lastTokenAt: null, tokensAtExit: 0 }];
  const { exits } = replan(all, { ...idle, live: all }, sample, exactPolicy);
  t.strictSame(exits, [], `${exit} layers`);
  t.ok(exit < told(request).exit, 'less than alone');
});
