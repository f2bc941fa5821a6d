/** Exits of requests that begin, and the pauses of a step. */
import t from 'tap';
import { costModel } from '../../src/engine/scheduler/cost/model.js';
import { at } from '../../src/util/at.js';
import type { Budget } from '../../src/protocol/index.js';
import type { Policy } from '../../src/engine/scheduler/policy.js';
import type { Sequence } from '../../src/engine/scheduler/sequence.js';
import type { Occupancy } from '../../src/engine/scheduler/snapshot.js';
import { chooseExits } from '../../src/engine/scheduler/exit-choice.js';
import type { Snapshot } from '../../src/engine/scheduler/snapshot.js';
import {
  type Given,
  NOW,
  answering,
  changed,
  natural,
  planOf,
  snapshot,
  prompting,
  plannerOf,
  stateOf,
  total,
  unstated,
} from './fixtures.js';
import { layers, shape, table } from './sample.js';

const DEEPEST = 4;
/** Exit (index) of each request that begins, by id. */
function exitsOf(parts: Partial<Occupancy>, deepest = DEEPEST): Record<string, number> {
  return Object.fromEntries(chosen(snapshot(parts), deepest));
}
function chosen(state: Snapshot, deepest = DEEPEST): (readonly [string, number])[] {
  const fates = chooseExits(state, deepest);
  return state.requests
    .filter(({ isBeginning }) => isBeginning)
    .map((each) => [each.sequence.id, fates.get(each)?.exit ?? NaN] as const);
}
const exitOf = (budget: Budget | null, more: Given = {}, deepest?: number): number | undefined =>
  exitsOf({ live: [prompting('a', budget, { ...natural, ...more })] }, deepest).a;
const bare = total(150, 'land');

void t.test('exits without right answers behind a prompt are not for it, whatever the budget', async (t) => {
  const exits = shape.exits.map((exit, i) => (i < 3 ? { ...exit, accuracyByPrompt: [[500, 0] as const] } : exit));
  const own = costModel(table, { ...shape, exits });
  const hopeless = { ...unstated, ttftMs: 1 };
  const exitIn = (given: Given) =>
    chosen(snapshot({ live: [prompting('a', hopeless, { ...natural, promptLength: 600, ...given })] }, {}, own));
  t.same([exitIn({}), exitIn({ maxExit: 15 })], [[['a', 3]], [['a', 1]]], 'but the deepest allowed');
});

void t.test(
  'an ample budget and none begin at full depth, a tight one shallower, a hopeless one at its least',
  async (t) => {
    t.same([exitOf(total(60_000, 'land')), exitOf(null)], [4, 4]);
    t.ok((exitOf(bare) ?? 9) < 4);
    t.same([exitOf(total(20, 'land')), exitOf(total(20, 'land'), { minExit: 20 })], [0, 2]);
  },
);

void t.test('under a grammar an answer has the deepest exit that it may have, whatever its budget', async (t) => {
  for (const budget of [bare, total(20, 'land'), total(60_000, 'land')])
    t.equal(exitOf(budget, { mayEnd: false }), 4, `${budget.totalMs} ms`);
  t.equal(exitOf(bare, { mayEnd: false, minExit: 15, maxExit: 20 }), 2);
});

void t.test('an answer that can not land begins at the deepest exit that has time for all of it', async (t) => {
  const exact = { isExactLength: true, maxTokens: 50 };
  for (const [totalMs, exit] of [
    [200, 0],
    [240, 1],
    [280, 2],
    [320, 3],
    [370, 4],
  ] as const) {
    t.equal(exitOf(total(totalMs), exact), exit, `${totalMs} ms`);
  }
  t.equal(exitOf(total(740), natural), 0, 'it may get long');
  t.equal(exitOf(total(740, 'land'), natural), 4);
});

void t.test('a first token and a TPOT bound the exit', async (t) => {
  const with_ = (part: Partial<Budget>): number => exitOf({ ...unstated, ...part }) ?? -1;
  t.equal(with_({ ttftMs: 1000 }), 4);
  t.ok(with_({ ttftMs: 60 }) < 4);
  t.equal(with_({ tpotMs: 20 }), 4);
  t.ok(with_({ tpotMs: 4.6 }) < 4);
  t.equal(with_({ tpotMs: 0.1 }), 0);
});

void t.test('the load bounds the exit of answers that begin with a budget, and of no other one', async (t) => {
  t.equal(exitOf(total(60_000, 'land'), {}, 1), 1);
  t.equal(exitOf(total(60_000, 'land'), { minExit: 25 }, 1), 3, 'its own bound comes first');
  t.equal(exitOf(null, {}, 1), 4);
  t.same(exitsOf({ live: [answering('a', total(60_000, 'land'), natural)] }, 1), {}, 'it has begun');
});

void t.test('a prompt that has begun keeps its exit, unless another one begins', async (t) => {
  const tight = (id: string, done: number): Sequence =>
    prompting(id, total(20, 'land'), { ...natural, frontier: layers.map((layer) => (layer === 30 ? 0 : done)) });
  const changes = (...live: Sequence[]) =>
    [...plannerOf().decide(stateOf({ live })).exits].map(([{ id }, exit]) => [id, exit]);
  t.same(changes(tight('a', 0)), [['a', 0]]);
  t.same(changes(tight('a', 16)), []);
  t.same(changes(tight('a', 16), tight('b', 0)), [
    ['a', 0],
    ['b', 0],
  ]);
});

void t.test('an answer behind shallower thoughts begins like a prompt, at the exit that it was given', async (t) => {
  const frontier = layers.map((layer) => (layer === 10 ? 239 : 0));
  for (const totalMs of [60_000, NOW + 30]) {
    t.same(exitsOf({ live: [answering('a', total(totalMs, 'land'), { ...natural, frontier })] }), { a: 4 });
  }
});

void t.test('a request that begins behind others has less time: it is planned in order of service', async (t) => {
  const live = ['a', 'b', 'c', 'd'].map((id, i) => prompting(id, total(300 + i, 'land'), natural));
  const exits = exitsOf({ live });
  t.ok(at(Object.values(exits), 3) < (exitOf(total(303, 'land')) ?? 0), JSON.stringify(exits));
  t.same(exitsOf({ live: [...live].reverse() }), exits, 'whatever the order of the slots');
  const unpromised = live.map((each) => changed(each, { serviceClass: 'best_effort' }));
  t.same(exitsOf({ live: unpromised }), { a: 4, b: 4, c: 0, d: 0 }, 'no promise bounds the others');
});

void t.test('promises begin at the deepest exit that keeps all', async (t) => {
  for (const [totalMs, exit] of [
    [500, 4],
    [400, 3],
    [300, 1],
    [200, 0],
  ] as const) {
    const live = ['a', 'b', 'c', 'd'].map((id) => prompting(id, total(totalMs), { maxTokens: 20 }));
    t.same(exitsOf({ live }), { a: exit, b: exit, c: exit, d: exit }, `four of ${totalMs} ms`);
  }
});

void t.test('a request that is late anyway takes no time of others', async (t) => {
  const late = prompting('late', total(500, 'land'), { ...natural, arrivedAt: NOW - 480, promptLength: 900 });
  const one = prompting('a', total(400, 'land'), natural);
  t.equal(exitsOf({ live: [late, one] }).a, exitsOf({ live: [one] }).a);
});

const pausedOf = (live: readonly Sequence[], policy: Partial<Policy> = {}): readonly string[] =>
  planOf(plannerOf(policy), stateOf({ live })).paused;
const rows = [0, 1, 2].map((i) => answering(`row${i}`, total(60_000, 'land'), natural));
/** It has time for a sentence by itself, and not beside another row. */
const tight = answering('tight', total(NOW + 155, 'land'), natural);
const free = (lastTokenAt: number): Sequence => answering('free', null, { lastTokenAt });

for (const [name, live, policy, paused] of [
  ['while every deadline has slack, rows without one run', [...rows, free(NOW)], {}, []],
  ['beside a deadline without slack, a row without one pauses', [...rows, tight, free(NOW)], {}, ['free']],
  ['a paused row runs when its share is due', [...rows, tight, free(NOW - 2000)], {}, []],
  ['a row whose share is the whole machine runs', [tight, free(NOW)], { noBudgetShare: 1 }, []],
  ['without deadlines no row pauses', [free(NOW), answering('late', total(500), { lastTokenAt: NOW })], {}, []],
  ['a late row pauses as one without a promise', [tight, answering('late', total(500), {})], {}, ['late']],
  ['no row with a budget pauses, and no prompt', [tight, ...rows, prompting('p', null)], {}, []],
] as const) {
  void t.test(`pauses: ${name}`, async (t) => {
    t.same(pausedOf(live, policy), paused);
  });
}

void t.test('the plan in which a prompt begins decides its exit, also behind a stored prefix', async (t) => {
  for (const cachedTokens of [0, 100]) {
    const frontier = layers.map(() => cachedTokens);
    const sequence = prompting('a', total(20, 'land'), { ...natural, frontier });
    sequence.cachedTokens = cachedTokens;
    t.equal(planOf(plannerOf(), stateOf({ live: [sequence] })).exits.get('a'), 10, `${cachedTokens} positions`);
  }
});
