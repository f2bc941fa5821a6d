/** The window of a landing, and what is cut at its deadline. */
import fc from 'fast-check';
import t from 'tap';
import { cutAt, LANDING_OPENS } from '../../src/protocol/outcome.js';
import type { Budget, OnMiss } from '../../src/protocol/index.js';
import type { Planner } from '../../src/engine/scheduler/planner.js';
import type { Occupancy } from '../../src/engine/scheduler/snapshot.js';
import { defaultPolicy } from '../../src/engine/scheduler/policy.js';
import { runs } from './arbitrary.js';
import { type Given, NOW, changed, answering, arrive, asking, natural, planOf, prompting } from './fixtures.js';
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

void t.test('without load the window is the end of the budget, less the overhead of the request', async (t) => {
  const endsAt = 5000 - OVERHEAD;
  t.match(alone.landing(lander), { opensAt: LANDING_OPENS * endsAt, endsAt });
});

void t.test('the window stays while the answer goes on', async (t) => {
  const later = changed(lander, { generated: 200 });
  t.same(alone.landing(later), alone.landing(lander));
});

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

void t.test('a planner that has planned nothing lands by the budget alone', async (t) => {
  const fresh = plannerOf();
  t.match(fresh.landing(lander), { endsAt: 5000 - OVERHEAD });
  t.equal(fresh.tokenMs, 0);
});

/** A planner that has planned a step under load. */
function loaded(): Planner {
  const planner = plannerOf();
  for (let at = NOW - 5000; at <= NOW; at += 25) {
    arrive(planner, asking(`past${at}`, total(4000, 'land'), { ...natural, arrivedAt: at }), at);
  }
  const state = stateOf({ live: [lander, changed(lander, { id: 'b' }), prompting('c', total(4000, 'land'), natural)] });
  return planned(state, planner);
}

void t.test('in any state the window opens after arrival and ends by the deadline', async () => {
  const times = fc.record({
    agoMs: fc.nat(20_000),
    totalMs: fc.integer({ min: 20, max: 60_000 }),
    generated: fc.nat(900),
  });
  const planner = loaded();
  fc.assert(
    fc.property(times, fc.boolean(), ({ agoMs, totalMs, generated }, isLoaded) => {
      const request = changed(lander, { arrivedAt: NOW - agoMs, budget: total(totalMs, 'land'), generated });
      const by = isLoaded ? planner : alone;
      const found = by.landing(request);
      if (found === null) throw new Error('it lands');
      const { opensAt, endsAt } = found;
      const { tokenMs } = by;
      if (!(endsAt <= request.arrivedAt + totalMs - OVERHEAD)) throw new Error(`it ends at ${endsAt}`);
      if (opensAt > Math.max(endsAt, request.arrivedAt)) throw new Error(`it opens at ${opensAt}, ends at ${endsAt}`);
      if (!(tokenMs >= 0 && tokenMs < 1e4)) throw new Error(`${tokenMs} ms a token`);
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

for (const onMiss of ['truncate', 'land', 'reject'] as const) {
  void t.test(`${onMiss}: an answer of any form is cut before the step that would pass its deadline`, async (t) => {
    for (const form of [natural, {}, { ...natural, mayEnd: false }]) {
      t.ok(isOverdue(total(1000, onMiss), stepMs - 0.01, form));
      t.notOk(isOverdue(total(1000, onMiss), stepMs + 0.01, form));
    }
  });
}

for (const [name, budget, more] of [
  ['continue', total(1000), natural],
  ['a budget without a total', { ...unstated, ttftMs: 1, onMiss: 'truncate' as OnMiss }, natural],
] as const) {
  void t.test(`${name}: an answer is not cut`, async (t) => {
    t.notOk(isOverdue(budget, -500, more));
  });
}
