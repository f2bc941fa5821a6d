/** The bound of a load on the depth of all answers. */
import t from 'tap';
import { costModel } from '../../src/engine/scheduler/cost/model.js';
import { type Arrival, depthBound, Load } from '../../src/engine/scheduler/exit-choice.js';
import { defaultPolicy } from '../../src/engine/scheduler/policy.js';
import type { Snapshot } from '../../src/engine/scheduler/snapshot.js';
import type { Budget } from '../../src/protocol/index.js';
import { type Given, NOW, answering, asking, natural, planOf, plannerOf, prompting, snapshot } from './fixtures.js';
import { stateOf, total } from './fixtures.js';
import { layers, sample, shape, table } from './sample.js';

const DEEPEST = 4;
const rows = [0, 1].map((i) => answering(`row${i}`, total(60_000, 'land'), natural));
const busy = snapshot({ live: rows });
/** Prompts of 100 positions, with budgets of a second. */
const arriving = (perSecond: number, more: Partial<Arrival> = {}): Arrival[] =>
  Array.from({ length: perSecond }, () => {
    const terms = { tenant: 'a', promptTokens: 100, positions: 100, maxTokens: 1024, lands: true };
    return { at: NOW, forMs: 1000, ...terms, ...more };
  });

/** The lowest rate that makes answers shallower. */
const firstRate = (state: Snapshot, more: Partial<Arrival> = {}): number =>
  Array.from({ length: 200 }, (_, i) => i + 1).find((rate) => depthBound(state, arriving(rate, more)) < DEEPEST) ?? NaN;

/** The load of so many requests with this budget, which arrive at once. */
function loadOf(count: number, budget: Budget | null = total(2000, 'land'), more: Given = {}): Load {
  const load = new Load(defaultPolicy);
  for (let i = 0; i < count; i++) load.observe(asking(`past${i}`, budget, { ...natural, ...more }), NOW);
  return load;
}

void t.test('with a rising rate answers get no deeper', async (t) => {
  t.equal(depthBound(busy, []), DEEPEST);
  let before = DEEPEST;
  for (let perSecond = 1; perSecond < 200; perSecond *= 2) {
    const exit = depthBound(busy, arriving(perSecond));
    t.ok(exit <= before, `${perSecond}/s: exit ${exit} after ${before}`);
    before = exit;
  }
  t.ok(before < DEEPEST, 'shallower at the highest rate');
  t.equal(depthBound(snapshot({ live: rows }, { depthGain: 10 }), arriving(200)), DEEPEST, 'for too small a gain');
});

void t.test('more work for each request makes answers shallower at a lower rate', async (t) => {
  const usual = firstRate(busy);
  t.ok(firstRate(busy, { positions: 800 }) < 0.6 * usual, 'long prompts');
  t.ok(firstRate(busy, { lands: false }) < usual, 'answers that can not land');
  const slow = { ...sample, drift: { ...sample.drift, slowdown: 4 } };
  t.ok(firstRate(snapshot({ live: rows }, {}, slow)) < usual, 'a slower machine');
  const flood = { promptTokens: 5, positions: 5 };
  t.equal(depthBound(busy, arriving(64, { ...flood, maxTokens: 1 })), DEEPEST, 'requests for one token make little');
  t.ok(depthBound(busy, arriving(64, flood)) < DEEPEST);
});

void t.test('a burst with long budgets stays deep: the time that they leave serves it', async (t) => {
  t.equal(depthBound(busy, arriving(firstRate(busy), { forMs: 10_000 })), DEEPEST);
});

void t.test('right answers count behind whole prompts, and not behind the part to prefill', async (t) => {
  const points = [[100, 0.9] as const, [500, 0] as const];
  const exits = shape.exits.map((exit, i) => (i < 3 ? { ...exit, accuracyByPrompt: points } : exit));
  const state = snapshot({ live: rows }, {}, costModel(table, { ...shape, exits }));
  const boundOf = (promptTokens: number): number => depthBound(state, arriving(200, { promptTokens, positions: 5 }));
  t.ok(boundOf(100) < 3, `exit ${boundOf(100)}`);
  t.ok(boundOf(500) >= 3, `exit ${boundOf(500)}`);
});

void t.test('an exit with no more right answers a millisecond than a deeper one is taken at no rate', async (t) => {
  const exits = shape.exits.map((exit, i) => ({ ...exit, accuracy: i < DEEPEST ? 0.05 * (i + 1) : 1 }));
  const state = snapshot({ live: rows }, {}, costModel(table, { ...shape, exits }));
  for (const perSecond of [1, 10, 100, 1000]) t.equal(depthBound(state, arriving(perSecond)), DEEPEST);
});

void t.test('a tenant counts for no more arrivals than all others together', async (t) => {
  const flood = arriving(60, { tenant: 'flood' });
  t.ok(depthBound(busy, flood) < DEEPEST, 'alone, all of them count');
  const both = [...arriving(1), ...flood];
  t.equal(depthBound(busy, both), depthBound(busy, arriving(2)));
});

void t.test('load is requests with a total budget, by their positions without a prefix', async (t) => {
  const long = { promptLength: 800 };
  t.ok(loadOf(20, undefined, long).bound(busy) < DEEPEST);
  t.ok(loadOf(20, undefined, long).bound(snapshot({ waiting: [asking('new', total(2000))] })) < DEEPEST, 'a lone one');
  t.equal(loadOf(20, undefined, { ...long, frontier: layers.map(() => 700) }).bound(busy), DEEPEST);
  t.equal(loadOf(300, null).bound(busy), DEEPEST);
});

void t.test('a bound is gone within a second behind a burst', async (t) => {
  const load = loadOf(100);
  const boundAt = (now: number): number => load.bound(snapshot({ live: rows, now }));
  t.ok(boundAt(NOW) < DEEPEST && boundAt(NOW + 500) < DEEPEST);
  t.equal(boundAt(NOW + 1000), DEEPEST);
});

void t.test('a rejected request is load, unless not even an idle machine keeps its budget', async (t) => {
  const behind = (budgetMs: number): number => {
    const planner = plannerOf();
    for (let now = NOW - 1000; now <= NOW; now += 20) {
      const rejected = asking(`past${now}`, total(budgetMs, 'land'), { ...natural, arrivedAt: now });
      rejected.isOver = true;
      planner.observeArrivals([rejected], stateOf({ now }));
    }
    const live = [...rows, prompting('new', total(60_000, 'land'), natural)];
    return planOf(planner, stateOf({ live })).exits.get('new') ?? NaN;
  };
  t.ok(behind(500) < 30);
  t.equal(behind(30), 30);
});
