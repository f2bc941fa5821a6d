/** The bound of a load on the depth of all answers. */
import t from 'tap';
import { costModel } from '../../src/engine/scheduler/cost/model.js';
import { type Arrival, depthBound, Load } from '../../src/engine/scheduler/exit-choice.js';
import { defaultPolicy } from '../../src/engine/scheduler/policy.js';
import type { Planner } from '../../src/engine/scheduler/planner.js';
import type { Snapshot } from '../../src/engine/scheduler/snapshot.js';
import type { Sequence } from '../../src/engine/scheduler/sequence.js';
import { type Given, NOW, changed, within, answering, arrive, asking, natural, planOf, snapshot } from './fixtures.js';
import { prompting, plannerOf, stateOf, total } from './fixtures.js';
import { layers, sample, shape, table } from './sample.js';

const DEEPEST = 4;
const ample = total(60_000, 'land');
const rows = Array.from({ length: 2 }, (_, i) => answering(`row${i}`, ample, natural));
const prompts = (count: number, more: Given = {}): Sequence[] =>
  Array.from({ length: count }, (_, i) => asking(`p${i}`, total(2000, 'land'), { ...natural, ...more }));
/** Prompts of 100 positions and budgets of 2 s, at an even rate up to the present. */
function arriving(perSecond: number, more: Partial<Arrival> = {}): Arrival[] {
  const terms = { tenant: 'a', promptTokens: 100, positions: 100, budgetMs: 2000, maxTokens: 1024 };
  const count = Math.round((perSecond * defaultPolicy.arrivalWindowMs) / 1000);
  return Array.from({ length: count }, (_, i) => {
    return { at: NOW - (1000 * (i + 0.5)) / perSecond, ...terms, lands: true, isWhole: false, ...more };
  }).reverse();
}
const deepestUnder = (state: Snapshot, arrivals: readonly Arrival[]): number => depthBound(state, arrivals);

void t.test('without arrivals nothing bounds depth', async (t) => {
  t.equal(deepestUnder(snapshot({ live: rows }), []), DEEPEST);
});

void t.test('a few tight budgets bound no ample one', async (t) => {
  for (const budgetMs of [200, 500, 2000]) {
    const state = snapshot({ live: rows });
    const few = [...arriving(0.34, { budgetMs }), ...arriving(0.34, { budgetMs: 60_000 })];
    t.equal(deepestUnder(state, few), DEEPEST, `${budgetMs} ms`);
    t.ok(deepestUnder(state, arriving(1e3, { budgetMs })) < DEEPEST, `${budgetMs} ms under load`);
  }
});

void t.test('an idle engine has no bound, nor a request that is alone, whatever came', async (t) => {
  const boundOf = (parts: Parameters<typeof snapshot>[0]): number => {
    const load = new Load(defaultPolicy);
    for (let i = 0; i < 300; i++) load.observe(asking(`past${i}`, total(2000, 'land'), natural), NOW - i);
    t.ok(load.bound(snapshot({ live: rows })) < DEEPEST, 'beside others there is one');
    return load.bound(snapshot(parts));
  };
  t.equal(boundOf({}), DEEPEST);
  t.equal(boundOf({ waiting: prompts(1) }), DEEPEST);
  t.equal(boundOf({ live: rows.slice(0, 1) }), DEEPEST);
});

void t.test('a part of an answer that can not land is worth nothing', async (t) => {
  const bounded = (lands: boolean): number =>
    Array.from({ length: 60 }, (_, i) => i + 1).find((perSecond) => {
      return deepestUnder(snapshot({ live: rows }), arriving(perSecond, { lands })) < DEEPEST;
    }) ?? Infinity;
  t.ok(bounded(false) < bounded(true), `${bounded(false)} and ${bounded(true)} a second`);
});

void t.test('right answers count behind whole prompts, and not behind the part to prefill', async (t) => {
  const points = [[100, 0.9] as const, [500, 0] as const];
  const exits = shape.exits.map((exit, i) => (i < 3 ? { ...exit, accuracyByPrompt: points } : exit));
  const state = snapshot({ live: rows }, {}, costModel(table, { ...shape, exits }));
  const boundOf = (promptTokens: number): number => deepestUnder(state, arriving(200, { promptTokens, positions: 5 }));
  t.ok(boundOf(100) < 3, `exit ${boundOf(100)}`);
  t.ok(boundOf(500) >= 3, `exit ${boundOf(500)}`);
});

void t.test('requests without a total budget have no bound, and make none', async (t) => {
  const load = new Load(defaultPolicy);
  for (let i = 0; i < 300; i++) load.observe(asking(`past${i}`, null, natural), NOW - i);
  t.equal(load.bound(snapshot({ live: rows })), DEEPEST);
  const live = rows.map((each) => within(each, null));
  for (let i = 0; i < 300; i++) load.observe(asking(`past${i}`, total(2000, 'land'), natural), NOW - i);
  t.equal(load.bound(snapshot({ live })), DEEPEST);
});

void t.test('a light load with ample budgets is free', async (t) => {
  t.equal(deepestUnder(snapshot({ live: rows }), arriving(0.34, { budgetMs: 60_000 })), DEEPEST);
});

void t.test('a heavy load makes answers shallower', async (t) => {
  t.ok(deepestUnder(snapshot({ live: rows }), arriving(60)) < DEEPEST);
  t.ok(deepestUnder(snapshot({ live: rows }), arriving(20)) < DEEPEST);
  t.equal(deepestUnder(snapshot({ live: rows }, { depthGain: 10 }), arriving(20)), DEEPEST, 'for too small a gain');
});

for (const budgetMs of [500, 2000, 10_000]) {
  void t.test(`with a rising rate and budgets of ${budgetMs} ms answers get no deeper`, async (t) => {
    const state = snapshot({ live: rows });
    let before = DEEPEST;
    for (let perSecond = 0.5; perSecond < 200; perSecond *= 1.5) {
      const exit = deepestUnder(state, arriving(perSecond, { budgetMs }));
      t.ok(exit <= before, `${perSecond}/s: exit ${exit} after ${before}`);
      before = exit;
    }
    t.ok(before < DEEPEST, 'shallower at the highest rate');
  });
}

void t.test('long prompts wait for each other: they make answers shallower at a lower rate', async (t) => {
  const firstBounded = (positions: number): number =>
    Array.from({ length: 60 }, (_, i) => i + 1).find((perSecond) => {
      return deepestUnder(snapshot({ live: rows }), arriving(perSecond, { budgetMs: 500, positions })) < DEEPEST;
    }) ?? Infinity;
  t.ok(firstBounded(800) < 0.6 * firstBounded(100), `${firstBounded(800)} and ${firstBounded(100)} a second`);
});

/** Exit layer of a prompt beside two rows, behind one arrival each so many ms. */
function exitAfter(gapMs: number, learn: (planner: Planner, arrivedAt: number) => void): number | undefined {
  const planner = plannerOf();
  for (let at = NOW - defaultPolicy.arrivalWindowMs + 1; at <= NOW; at += gapMs) learn(planner, at);
  return planOf(planner, stateOf({ live: [...rows, prompting('new', ample, natural)] })).exits.get('new');
}

void t.test('of the prompts that came only the positions without a prefix are load', async (t) => {
  const behind = (cached: number): number | undefined =>
    exitAfter(200, (planner, arrivedAt) => {
      const expectedFrontier = layers.map(() => cached);
      const more = { ...natural, arrivedAt, promptLength: 800, expectedFrontier };
      arrive(planner, asking(`past${arrivedAt}`, total(500, 'land'), more), arrivedAt);
    });
  t.equal(behind(700), 30);
  t.ok((behind(0) ?? 30) < 30, `${behind(0)}`);
});

void t.test('a rejected request is load, unless not even an idle machine keeps its budget', async (t) => {
  const behind = (budgetMs: number): number | undefined =>
    exitAfter(20, (planner, now) => {
      const rejected = asking(`past${now}`, total(budgetMs, 'land'), { ...natural, arrivedAt: now });
      planner.observeRejections([rejected], stateOf({ now }));
    });
  t.ok((behind(500) ?? 30) < 30);
  t.equal(behind(30), 30);
});

void t.test('no bound is shallower than all requests allow', async (t) => {
  const live = rows.map((each) => changed(each, { minExit: 20 }));
  t.ok(deepestUnder(snapshot({ live }), arriving(1e3)) >= 2);
  const deep = rows.map((each) => changed(each, { minExit: 30 }));
  t.equal(deepestUnder(snapshot({ live: deep }), arriving(1e3)), DEEPEST);
});

void t.test('a burst counts as load, and one prompt does not', async (t) => {
  const of = (count: number): number => deepestUnder(snapshot({ live: rows, waiting: prompts(count) }), arriving(0.34));
  t.equal(of(1), DEEPEST, 'one prompt');
  t.ok(of(80) < DEEPEST, `${of(80)}`);
});

void t.test('prompts that can not be in time are no load', async (t) => {
  const late = prompts(80, { arrivedAt: -1900 });
  t.equal(deepestUnder(snapshot({ live: rows, waiting: late }), arriving(0.34)), DEEPEST);
});

void t.test('a slower machine is a higher load', async (t) => {
  const slow = { ...sample, drift: { ...sample.drift, slowdown: 4 } };
  const [fast, slower] = [snapshot({ live: rows }), snapshot({ live: rows }, {}, slow)];
  t.ok(deepestUnder(slower, arriving(8)) < deepestUnder(fast, arriving(8)));
});

void t.test('requests for one token make no load, whatever their budgets', async (t) => {
  const flood = { promptTokens: 5, positions: 5, budgetMs: 86_400_000 };
  t.equal(deepestUnder(snapshot({ live: rows }), arriving(64, { ...flood, maxTokens: 1 })), DEEPEST);
  t.ok(deepestUnder(snapshot({ live: rows }), arriving(64, flood)) < DEEPEST);
});

void t.test('a tenant counts for no more arrivals than all others together', async (t) => {
  const state = snapshot({ live: rows });
  const flood = arriving(60, { tenant: 'flood' });
  t.ok(deepestUnder(state, flood) < DEEPEST, 'alone, all of them count');
  const both = [...arriving(1), ...flood].sort((a, b) => a.at - b.at);
  t.equal(deepestUnder(state, both), deepestUnder(state, arriving(2)));
});

/** The lowest rate that makes answers shallower. */
const firstRate = (state: Snapshot): number =>
  Array.from({ length: 200 }, (_, i) => 0.5 * (i + 1)).find((rate) => deepestUnder(state, arriving(rate)) < DEEPEST) ??
  NaN;

void t.test('the present bound stays while another one gains little', async (t) => {
  const state = snapshot({ live: rows });
  const rate = firstRate(state);
  t.equal(depthBound(state, arriving(rate), DEEPEST), DEEPEST);
  t.ok(depthBound(state, arriving(10 * rate), DEEPEST) < DEEPEST, 'and goes where another one gains much');
});

void t.test('a bound is gone soon behind a burst, and follows a load that stays', async (t) => {
  const { arrivalWindowMs, depthHoldMs } = defaultPolicy;
  const load = new Load(defaultPolicy);
  const boundAt = (now: number): number => load.bound(snapshot({ live: rows, now }));
  const observe = (i: number, now: number): void => {
    load.observe(asking(`past${i}`, total(2000, 'land'), { ...natural, promptLength: 100 }), now);
  };
  for (let i = 0; i < 100; i++) observe(i, NOW);
  t.ok(boundAt(NOW) < DEEPEST);
  t.equal(boundAt(NOW + arrivalWindowMs), DEEPEST, 'arrivals of the past do not count');
  const gapMs = 1000 / firstRate(snapshot({ live: rows }));
  const from = NOW + arrivalWindowMs;
  let [before, bound] = [DEEPEST, DEEPEST];
  for (let now = from; now < from + 2 * depthHoldMs; now += gapMs) {
    observe(now, now);
    bound = boundAt(now);
    if (now < from + depthHoldMs - gapMs) before = bound;
  }
  t.equal(before, DEEPEST, 'it holds');
  t.ok(bound < DEEPEST, 'for a while');
});
