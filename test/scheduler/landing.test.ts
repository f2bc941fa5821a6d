/** The window of a landing, and what is cut at its deadline. */
import fc from 'fast-check';
import t from 'tap';
import { cutAt, LANDING_OPENS } from '../../src/protocol/outcome.js';
import type { Budget } from '../../src/protocol/index.js';
import type { Planner } from '../../src/engine/scheduler/planner.js';
import type { Occupancy } from '../../src/engine/scheduler/snapshot.js';
import { defaultPolicy } from '../../src/engine/scheduler/policy.js';
import { runs } from './arbitrary.js';
import { type Given, NOW, changed, answering, asking, natural, planOf } from './fixtures.js';
import { plannerOf, stateOf, total, unstated } from './fixtures.js';

const OVERHEAD = defaultPolicy.requestOverheadMs;
const lander = answering('a', total(5000, 'land'), natural);
/** A planner that has planned a step of this state. */
function planned(state: Occupancy, planner: Planner = plannerOf()): Planner {
  planOf(planner, state);
  return planner;
}
const alone = planned(stateOf({ live: [lander] }));

void t.test('an answer lands where its budget says so', async (t) => {
  for (const onMiss of ['land', 'reject'] as const) {
    t.type(alone.landing(asking('a', total(5000, onMiss), natural)), 'object', onMiss);
  }
  for (const [name, request] of [
    ['continue', asking('a', total(5000), natural)],
    ['truncate', asking('a', total(5000, 'truncate'), natural)],
    ['an exact length', asking('a', total(5000, 'land'))],
    ['no budget', asking('a', null, natural)],
    ['no total budget', asking('a', { ...unstated, ttftMs: 100, onMiss: 'land' }, natural)],
    ['a text that may not end', asking('a', total(5000, 'land'), { ...natural, mayEnd: false })],
  ] as const) {
    t.equal(alone.landing(request), null, name);
  }
});

void t.test(
  'without load the window is the end of the budget, less the overhead, while the answer goes on',
  async (t) => {
    const endsAt = 5000 - OVERHEAD;
    for (const planner of [alone, plannerOf()])
      for (const each of [lander, changed(lander, { generated: 200 })])
        t.match(planner.landing(each), { opensAt: LANDING_OPENS * endsAt, endsAt });
  },
);

void t.test('the time of a token is that of a step, with margin, and with the prompts that wait', async (t) => {
  const tokenMs = (state: Occupancy): number => planned(state).tokenMs;
  const one = tokenMs(stateOf({ live: [lander] }));
  const decode = { rows: [0, 0, 0, 0, 1], context: 240 };
  const stepMs = plannerOf().predictMs({ decode, prefill: [] });
  t.ok(Math.abs(one / (stepMs * (1 + defaultPolicy.margin)) - 1) < 0.02, `${one} of ${stepMs} ms`);
  const rows = Array.from({ length: 8 }, (_, i) => changed(lander, { id: `row${i}` }));
  t.ok(tokenMs(stateOf({ live: [lander, ...rows] })) > 1.5 * one, 'more rows');
  const waiting = [asking('w', total(9000, 'land'), natural)];
  t.ok(tokenMs(stateOf({ live: [lander], waiting })) > one + 1, 'a prompt');
  const flood = Array.from({ length: 40 }, (_, i) => asking(`w${i}`, total(60_000, 'land'), { promptLength: 2000 }));
  const crowded = tokenMs(stateOf({ live: [lander], waiting: flood }));
  t.ok(crowded <= one + defaultPolicy.maxStallMs + 5, `${crowded} ms: chunks stall a step no longer`);
});

void t.test('whatever the budget, the window opens after arrival and ends by the deadline', async () => {
  const times = fc.record({
    agoMs: fc.nat(20_000),
    totalMs: fc.integer({ min: 20, max: 60_000 }),
    generated: fc.nat(900),
  });
  fc.assert(
    fc.property(times, ({ agoMs, totalMs, generated }) => {
      const request = changed(lander, { arrivedAt: NOW - agoMs, budget: total(totalMs, 'land'), generated });
      const { opensAt, endsAt } = alone.landing(request) ?? { opensAt: NaN, endsAt: NaN };
      if (!(endsAt <= request.arrivedAt + totalMs - OVERHEAD)) throw new Error(`it ends at ${endsAt}`);
      if (opensAt > Math.max(endsAt, request.arrivedAt)) throw new Error(`it opens at ${opensAt}, ends at ${endsAt}`);
    }),
    runs,
  );
});

const work = { decode: { rows: [0, 0, 0, 0, 4], context: 200 }, prefill: [] };
const stepMs = plannerOf().predictMs(work);
/** Whether a request is overdue, whose budget has so much time left. */
function isOverdue(budget: Budget, leftMs: number, more: Given = natural): boolean {
  const endsAt = plannerOf().endsAt(NOW + (budget.totalMs ?? 0) - OVERHEAD - leftMs, work);
  return cutAt(asking('a', budget, more)) < endsAt;
}

void t.test(
  'an answer of any form is cut ahead of the step that would pass its deadline, unless it goes on',
  async (t) => {
    for (const form of [natural, {}, { ...natural, mayEnd: false }]) {
      for (const onMiss of ['truncate', 'land', 'reject'] as const) {
        t.ok(isOverdue(total(1000, onMiss), stepMs - 0.01, form));
        t.notOk(isOverdue(total(1000, onMiss), stepMs + 0.01, form));
      }
      t.notOk(isOverdue(total(1000), -500, form));
      t.notOk(isOverdue({ ...unstated, ttftMs: 1, onMiss: 'truncate' }, -500, form));
    }
  },
);
