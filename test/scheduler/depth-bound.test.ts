/** The bound of a load on the depth of all answers. */
import t from 'tap';
import { costModel } from '../../src/engine/scheduler/cost/model.js';
import { depthBound, type DepthValues, type Expected } from '../../src/engine/scheduler/depth-bound.js';
import { defaultPolicy } from '../../src/engine/scheduler/policy.js';
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
const expected = (perSecond: number, budgetMs = 2000): Expected => {
  const asked = { budgetMs, maxTokens: 1024, lands: true, count: 1 };
  return { rate: perSecond / 1000, promptTokens: 100, positions: 100, asked: [{ ...asked, count: 3 }] };
};
const deepestUnder = (state: Snapshot, of: Expected): number => depthBound(state, of).deepest;

void t.test('without arrivals nothing bounds depth', async (t) => {
  t.same(deepestUnder(snapshot({ live: rows }), expected(0, 60_000)), DEEPEST);
  t.same(deepestUnder(snapshot({ live: rows }), { rate: 0, promptTokens: 0, positions: 0, asked: [] }), DEEPEST);
});

void t.test('without arrivals budgets that came bound no other request, however tight they were', async (t) => {
  const slow = { ...sample, drift: { ...sample.drift, slowdown: 4 } };
  for (const budgetMs of [500, 2000]) {
    const state = snapshot({ live: rows }, {}, slow);
    t.same(deepestUnder(state, expected(1e-6, budgetMs)), DEEPEST, `${budgetMs} ms`);
    t.ok(deepestUnder(state, expected(1e4, budgetMs)) < DEEPEST, `${budgetMs} ms under load`);
  }
});

void t.test('an idle engine has no bound, nor a request that is alone, whatever came', async (t) => {
  t.same(deepestUnder(snapshot(), expected(100)), DEEPEST);
  t.same(deepestUnder(snapshot({ waiting: prompts(1) }), expected(100)), DEEPEST);
  t.same(deepestUnder(snapshot({ live: rows.slice(0, 1) }), expected(100)), DEEPEST);
});

void t.test('a part of an answer that can not land is worth nothing', async (t) => {
  const of = (lands: boolean, perSecond: number): number => {
    const asked = { budgetMs: 2000, maxTokens: 1024, lands, count: 1 };
    return deepestUnder(snapshot({ live: rows }), {
      rate: perSecond / 1000,
      promptTokens: 100,
      positions: 100,
      asked: [asked],
    });
  };
  const bounded = (lands: boolean): number =>
    Array.from({ length: 60 }, (_, i) => i + 1).find((perSecond) => of(lands, perSecond) < DEEPEST) ?? Infinity;
  t.ok(bounded(false) < bounded(true), `${bounded(false)} and ${bounded(true)} a second`);
});

void t.test('right answers count behind whole prompts, and not behind the part to prefill', async (t) => {
  const points = [[100, 0.9] as const, [500, 0] as const];
  const exits = shape.exits.map((exit, i) => (i < 3 ? { ...exit, accuracyByPrompt: points } : exit));
  const state = snapshot({ live: rows }, {}, costModel(table, { ...shape, exits }));
  const boundOf = (promptTokens: number): number =>
    deepestUnder(state, { ...expected(200), promptTokens, positions: 5 });
  t.ok(boundOf(100) < 3, `exit ${boundOf(100)}`);
  t.ok(boundOf(500) >= 3, `exit ${boundOf(500)}`);
});

void t.test('requests without a total budget make no bound', async (t) => {
  const live = rows.map((each) => within(each, null));
  t.same(deepestUnder(snapshot({ live }), expected(100)), DEEPEST);
});

void t.test('a light load with ample budgets is free', async (t) => {
  t.same(deepestUnder(snapshot({ live: rows }), expected(0.1, 60_000)), DEEPEST);
});

void t.test('a heavy load makes answers shallower', async (t) => {
  t.ok(deepestUnder(snapshot({ live: rows }), expected(60)) < DEEPEST);
  t.equal(deepestUnder(snapshot({ live: rows }, { depthGain: 10 }), expected(60)), DEEPEST, 'for too small a gain');
});

for (const budgetMs of [500, 2000, 10_000]) {
  void t.test(`with a rising rate and budgets of ${budgetMs} ms answers get no deeper`, async (t) => {
    const state = snapshot({ live: rows });
    let before = DEEPEST;
    for (let perSecond = 0.5; perSecond < 200; perSecond *= 1.5) {
      const exit = deepestUnder(state, expected(perSecond, budgetMs));
      t.ok(exit <= before, `${perSecond}/s: exit ${exit} after ${before}`);
      before = exit;
    }
    t.ok(before < DEEPEST, 'shallower at the highest rate');
  });
}

void t.test('long prompts wait for each other: they make answers shallower at a lower rate', async (t) => {
  const exit = (positions: number, perSecond: number): number =>
    deepestUnder(snapshot({ live: rows }), { ...expected(perSecond, 500), positions });
  t.equal(exit(100, 1.9), DEEPEST);
  t.equal(exit(800, 1.5), DEEPEST);
  t.equal(exit(800, 1.9), 1);
  t.equal(exit(800, 8), 0);
});

void t.test('of the prompts that came only the positions without a prefix are load', async (t) => {
  const exitAfter = (cached: number): number | undefined => {
    const planner = plannerOf();
    for (let arrivedAt = NOW - 12_000; arrivedAt < NOW; arrivedAt += 400) {
      const expectedFrontier = layers.map(() => cached);
      const more = { ...natural, arrivedAt, promptLength: 800, expectedFrontier };
      arrive(planner, asking(`past${arrivedAt}`, total(500, 'land'), more), arrivedAt);
    }
    return planOf(planner, stateOf({ live: [...rows, prompting('new', ample, natural)] })).exits.get('new');
  };
  t.equal(exitAfter(700), 30);
  t.equal(exitAfter(0), 15);
});

void t.test('a rejected request is load, unless not even an idle machine keeps its budget', async (t) => {
  const exitAfter = (budgetMs: number): number | undefined => {
    const planner = plannerOf();
    for (let now = NOW - 4000; now < NOW; now += 20) {
      const rejected = asking(`past${now}`, total(budgetMs, 'land'), { ...natural, arrivedAt: now });
      planner.observeRejections([rejected], stateOf({ now }));
    }
    return planOf(planner, stateOf({ live: [...rows, prompting('new', ample, natural)] })).exits.get('new');
  };
  t.ok((exitAfter(500) ?? 30) < 30);
  t.equal(exitAfter(30), 30);
});

void t.test('no bound is shallower than all requests allow', async (t) => {
  const live = rows.map((each) => changed(each, { minExit: 20 }));
  t.ok(deepestUnder(snapshot({ live }), expected(1e4)) >= 2);
  const deep = rows.map((each) => changed(each, { minExit: 30 }));
  t.equal(deepestUnder(snapshot({ live: deep }), expected(1e4)), DEEPEST);
});

void t.test('a burst counts as load, and one prompt does not', async (t) => {
  const of = (count: number): number => deepestUnder(snapshot({ live: rows, waiting: prompts(count) }), expected(0));
  t.equal(of(1), of(0), 'one prompt');
  t.ok(of(60) < of(1), `${of(60)}`);
  // Beside the request itself, 36 prompts that are due within two seconds are as much as 18 a second.
  const atRate = (perSecond: number): number => deepestUnder(snapshot({ live: rows }), expected(perSecond));
  t.same([of(34), of(37)], [atRate(16.5), atRate(18)]);
  t.ok(of(37) < of(34));
});

void t.test('prompts that can not be in time are no load', async (t) => {
  const late = prompts(40, { arrivedAt: -1900 });
  const none = deepestUnder(snapshot({ live: rows }), expected(0));
  t.same(deepestUnder(snapshot({ live: rows, waiting: late }), expected(0)), none);
});

void t.test('a slower machine is a higher load', async (t) => {
  const rate = expected(8);
  const slow = { ...sample, drift: { ...sample.drift, slowdown: 4 } };
  const [fast, slower] = [snapshot({ live: rows }), snapshot({ live: rows }, {}, slow)];
  t.ok(deepestUnder(slower, rate) < deepestUnder(fast, rate));
});

void t.test('requests for one token make no load, whatever their budgets', async (t) => {
  const asked = { budgetMs: 86_400_000, maxTokens: 1, lands: true, count: 1 };
  const flood = { rate: 0.064, promptTokens: 5, positions: 5, asked: [asked, asked] };
  t.same(deepestUnder(snapshot({ live: rows }), flood), DEEPEST);
  t.ok(deepestUnder(snapshot({ live: rows }), { ...flood, asked: [{ ...asked, maxTokens: 1024 }] }) < DEEPEST);
});

void t.test('the bound follows the mean of a few seconds, not an instant', async (t) => {
  const [calm, rush] = [expected(5), expected(40)];
  const { depthMeanMs } = defaultPolicy;
  const stateAt = (ms: number) => snapshot({ live: rows, now: NOW + ms });
  const steady = (of: Expected): DepthValues => {
    let past: DepthValues | undefined;
    for (let ms = -4 * depthMeanMs; ms <= 0; ms += 20) past = depthBound(stateAt(ms), of, past).values;
    return past ?? { at: NaN, sums: new Map() };
  };
  t.equal(deepestUnder(stateAt(0), calm), DEEPEST);
  const shallow = deepestUnder(stateAt(0), rush);
  t.ok(shallow < DEEPEST);
  t.equal(depthBound(stateAt(20), rush, steady(calm)).deepest, DEEPEST, 'an instant of load');
  t.equal(
    depthBound(stateAt(10 * depthMeanMs), rush, steady(calm)).deepest,
    shallow,
    'behind a pause the past is gone',
  );
  let past = steady(calm);
  for (let ms = 20; ms < 8 * depthMeanMs; ms += 20) past = depthBound(stateAt(ms), rush, past).values;
  t.equal(depthBound(stateAt(8 * depthMeanMs), rush, past).deepest, shallow, 'a load that stays');
  t.same(depthBound(snapshot(), rush, past).values, past, 'a lone request teaches nothing');
});
