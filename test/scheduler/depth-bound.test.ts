/** The bound of a load on the depth of all answers. */
import t from 'tap';
import { costModel } from '../../src/engine/scheduler/cost/model.js';
import { type Arrival, depthBound, Load } from '../../src/engine/scheduler/exit-choice.js';
import { defaultPolicy } from '../../src/engine/scheduler/policy.js';
import type { Planner } from '../../src/engine/scheduler/planner.js';
import type { Snapshot } from '../../src/engine/scheduler/snapshot.js';
import type { Sequence } from '../../src/engine/scheduler/sequence.js';
import { type Given, NOW, answering, arrive, asking, natural, planOf, snapshot } from './fixtures.js';
import { prompting, plannerOf, stateOf, total } from './fixtures.js';
import { layers, sample, shape, table } from './sample.js';

const DEEPEST = 4;
const ample = total(60_000, 'land');
const rows = Array.from({ length: 2 }, (_, i) => answering(`row${i}`, ample, natural));
const prompts = (count: number, more: Given = {}): Sequence[] =>
  Array.from({ length: count }, (_, i) => asking(`p${i}`, total(2000, 'land'), { ...natural, ...more }));
/** Prompts of 100 positions, at an even rate up to the present. */
function arriving(perSecond: number, more: Partial<Arrival> = {}): Arrival[] {
  const terms = { tenant: 'a', promptTokens: 100, positions: 100, budgetMs: 1000, maxTokens: 1024 };
  const count = Math.round((perSecond * defaultPolicy.arrivalWindowMs) / 1000);
  return Array.from({ length: count }, (_, i) => {
    return { at: NOW - (1000 * (i + 0.5)) / perSecond, ...terms, lands: true, ...more };
  }).reverse();
}

/** The lowest rate that makes answers shallower. */
const firstRate = (state: Snapshot, more: Partial<Arrival> = {}): number =>
  Array.from({ length: 200 }, (_, i) => i + 1).find((rate) => depthBound(state, arriving(rate, more)) < DEEPEST) ?? NaN;

void t.test('without arrivals nothing bounds depth', async (t) => {
  t.equal(depthBound(snapshot({ live: rows }), []), DEEPEST);
});

void t.test('a request that is alone has the bound of the rate: others are about to arrive', async (t) => {
  const load = new Load(defaultPolicy);
  const alone = snapshot({ waiting: prompts(1) });
  load.observe(asking('first', total(2000, 'land'), natural), NOW);
  t.equal(load.bound(alone), DEEPEST);
  for (let i = 0; i < 300; i++) load.observe(asking(`past${i}`, total(2000, 'land'), natural), NOW);
  t.ok(load.bound(alone) < DEEPEST);
});

void t.test('a burst with long budgets stays deep: the time that they leave serves it', async (t) => {
  const state = snapshot({ live: rows });
  const rate = firstRate(state);
  t.ok(depthBound(state, arriving(rate)) < DEEPEST);
  t.equal(depthBound(state, arriving(rate, { budgetMs: 60_000 })), DEEPEST);
});

void t.test('an answer that can not land is more work, so it gets shallower at a lower rate', async (t) => {
  t.ok(firstRate(snapshot({ live: rows }), { lands: false }) < firstRate(snapshot({ live: rows })));
});

void t.test('right answers count behind whole prompts, and not behind the part to prefill', async (t) => {
  const points = [[100, 0.9] as const, [500, 0] as const];
  const exits = shape.exits.map((exit, i) => (i < 3 ? { ...exit, accuracyByPrompt: points } : exit));
  const state = snapshot({ live: rows }, {}, costModel(table, { ...shape, exits }));
  const boundOf = (promptTokens: number): number => depthBound(state, arriving(200, { promptTokens, positions: 5 }));
  t.ok(boundOf(100) < 3, `exit ${boundOf(100)}`);
  t.ok(boundOf(500) >= 3, `exit ${boundOf(500)}`);
});

void t.test('requests without a total budget make no bound', async (t) => {
  const load = new Load(defaultPolicy);
  for (let i = 0; i < 300; i++) load.observe(asking(`past${i}`, null, natural), NOW);
  t.equal(load.bound(snapshot({ live: rows })), DEEPEST);
});

void t.test('with a rising rate answers get no deeper', async (t) => {
  const state = snapshot({ live: rows });
  let before = DEEPEST;
  for (let perSecond = 1; perSecond < 200; perSecond *= 1.5) {
    const exit = depthBound(state, arriving(perSecond));
    t.ok(exit <= before, `${perSecond}/s: exit ${exit} after ${before}`);
    before = exit;
  }
  t.ok(before < DEEPEST, 'shallower at the highest rate');
  t.equal(depthBound(snapshot({ live: rows }, { depthGain: 10 }), arriving(200)), DEEPEST, 'for too small a gain');
});

void t.test('an exit with no more right answers a millisecond than a deeper one is taken at no rate', async (t) => {
  const exits = shape.exits.map((exit, i) => ({ ...exit, accuracy: i < DEEPEST ? 0.05 * (i + 1) : 1 }));
  const state = snapshot({ live: rows }, {}, costModel(table, { ...shape, exits }));
  for (const perSecond of [1, 10, 100, 1000]) t.equal(depthBound(state, arriving(perSecond)), DEEPEST);
});

void t.test('long prompts make answers shallower at a lower rate', async (t) => {
  const state = snapshot({ live: rows });
  t.ok(firstRate(state, { positions: 800 }) < 0.6 * firstRate(state));
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

void t.test('a slower machine is a higher load', async (t) => {
  const slow = { ...sample, drift: { ...sample.drift, slowdown: 4 } };
  const [fast, slower] = [snapshot({ live: rows }), snapshot({ live: rows }, {}, slow)];
  t.ok(firstRate(slower) < firstRate(fast));
});

void t.test('requests for one token make little load', async (t) => {
  const flood = { promptTokens: 5, positions: 5 };
  t.equal(depthBound(snapshot({ live: rows }), arriving(64, { ...flood, maxTokens: 1 })), DEEPEST);
  t.ok(depthBound(snapshot({ live: rows }), arriving(64, flood)) < DEEPEST);
});

void t.test('a tenant counts for no more arrivals than all others together', async (t) => {
  const state = snapshot({ live: rows });
  const flood = arriving(60, { tenant: 'flood' });
  t.ok(depthBound(state, flood) < DEEPEST, 'alone, all of them count');
  const both = [...arriving(1), ...flood].sort((a, b) => a.at - b.at);
  t.equal(depthBound(state, both), depthBound(state, arriving(2)));
});

void t.test('a bound is gone within a second behind a burst', async (t) => {
  const load = new Load(defaultPolicy);
  const boundAt = (now: number): number => load.bound(snapshot({ live: rows, now }));
  for (let i = 0; i < 100; i++)
    load.observe(asking(`past${i}`, total(2000, 'land'), { ...natural, promptLength: 100 }), NOW);
  t.ok(boundAt(NOW) < DEEPEST);
  t.ok(boundAt(NOW + 500) < DEEPEST);
  t.equal(boundAt(NOW + 1000), DEEPEST);
});
