/** The search for the least budget of a rejection: what it finds, and the planning time that it may take. */
import t from 'tap';
import { type LeastBudget, SearchTime, leastBudget } from '../../src/engine/scheduler/least-budget.js';
import { defaultPolicy } from '../../src/engine/scheduler/policy.js';
import { Refusals } from '../../src/engine/scheduler/refusals.js';
import type { Sequence } from '../../src/engine/scheduler/sequence.js';
import type { Trial } from '../../src/engine/scheduler/trial.js';
import type { Admission } from '../../src/engine/scheduler/types.js';
import { type Given, NOW, answering, asking, natural, plannerOf, stateOf, total } from './fixtures.js';

const waits = { waitedMs: 10, retryMs: 5 };
const HELD: Trial = { isInTime: true, hasMemory: true, readyMs: 100 };

/** Searches, and counts the budgets that are tried. */
function searched(attempt: (totalMs: number) => Trial | null): { least: LeastBudget; tried: number[] } {
  const tried: number[] = [];
  const least = leastBudget(waits, defaultPolicy, (totalMs) => {
    tried.push(totalMs);
    return attempt(totalMs);
  });
  return { least, tried };
}

void t.test('a budget whose tokens are there at one time is found in two trials, with room for a retry', async (t) => {
  const { least, tried } = searched((totalMs) => ({ ...HELD, isInTime: totalMs >= 110 }));
  t.equal(least, Math.ceil(110 * (1 + defaultPolicy.retryRoom) + 5));
  t.equal(tried.length, 2);
});

void t.test('a budget that would make an older promise late is stepped over', async (t) => {
  for (const from of [150, 300, 1000, 5000]) {
    const { least, tried } = searched((totalMs) => ({ ...HELD, isInTime: totalMs >= from }));
    t.ok(typeof least === 'number' && least >= from && least < 1.35 * from, `${least} of ${from}`);
    t.ok(tried.length <= defaultPolicy.leastTrials, `${tried.length} trials`);
  }
});

void t.test('a budget whose time needs more memory than there is goes without room, or is none', async (t) => {
  const until = (most: number) =>
    searched((totalMs) => ({ ...HELD, isInTime: totalMs >= 110, hasMemory: totalMs <= most })).least;
  t.equal(until(110), 110);
  t.equal(until(109), 'none');
});

void t.test('a promise that never holds has none, and one without planning time is not sought', async (t) => {
  t.equal(searched(() => ({ ...HELD, isInTime: false })).least, 'none');
  t.equal(searched(() => null).least, 'unsought');
  let left = 1;
  t.equal(searched(() => (left-- > 0 ? HELD : null)).least, 'unsought');
});

void t.test('a tenant takes half of the planning time that is left, and the next step has all of it', async (t) => {
  const time = new SearchTime({ leastForecasts: 100 }).at(0);
  const taken = (tenant: string): number => {
    let count = 0;
    while (time.take(tenant, 1)) count += 1;
    return count;
  };
  t.same([taken('a'), taken('b'), taken('a'), taken('c')], [50, 25, 0, 12]);
  t.same([time.at(1).take('a', 50), time.at(1).take('a', 1)], [true, false]);
  t.ok(time.at(2).take('a', 50));
});

const choices = (id: string, count: number, given: Given = {}): Sequence[] =>
  Array.from({ length: count }, (_, i) => asking(`${id}-${i}`, total(2, 'reject'), { ...natural, ...given }));
const leastOf = (each: Admission | undefined): number | null => {
  if (each?.kind !== 'reject') throw new Error('the request was to be rejected');
  return each.leastFeasibleMs;
};
const live = Array.from({ length: 31 }, (_, i) => answering(`row${i}`, total(20_000 + i, 'land'), natural));
const state = stateOf({ live, slots: 32 });

void t.test('rejections of many choices leave planning time for another tenant', async (t) => {
  const bad = Array.from({ length: 8 }, (_, i) =>
    choices(`bad${i}`, 64, { tenant: 'bad', promptLength: 200 + i, arrivedAt: NOW - i / 10 }),
  );
  const good = choices('good', 1, { tenant: 'good', arrivedAt: NOW - 1 });
  const all = plannerOf().admit([...bad.flat(), ...good], state);
  t.equal(typeof leastOf(all.at(-1)), 'number', 'the other tenant gets its number');
  const numbers = bad.map((_, i) => leastOf(all[64 * i]));
  t.equal(typeof numbers[0], 'number');
  t.ok(numbers.includes(null), 'the rest is rejected without one');
  for (const [i, each] of all.slice(0, -1).entries())
    if (each.kind === 'reject') t.equal(each.isUnsought === true, each.leastFeasibleMs === null, `request ${i}`);
});

void t.test('equal rejections of a step share a number', async (t) => {
  const groups = Array.from({ length: 40 }, (_, i) =>
    choices(`g${i}`, 8, { arrivedAt: NOW - i / 10, promptLength: 200 + (i % 2) }),
  );
  const all = plannerOf().admit(groups.flat(), state);
  const dueAt = groups.map(([first], i) => (first?.arrivedAt ?? NaN) + (leastOf(all[8 * i]) ?? NaN));
  for (const [i, instant] of dueAt.entries())
    t.ok(Math.abs(instant - (dueAt[i % 2] ?? NaN)) <= 2, `group ${i} is due at ${instant}`);
});

void t.test('an equal request with more time is tried by itself', async (t) => {
  const [first] = plannerOf().admit(choices('a', 1), stateOf());
  const ample = asking('b', total((leastOf(first) ?? NaN) + 50, 'reject'), natural);
  const kinds = plannerOf().admit([...choices('a', 1), ample, ...choices('c', 1)], stateOf());
  t.same(
    kinds.map(({ kind }) => kind),
    ['reject', 'admit', 'reject'],
  );
});

void t.test('a shared number is a time from the decision on, and not an instant', async (t) => {
  const refusals = new Refusals(defaultPolicy);
  const ask = (arrivedAt: number) => [asking('a', total(1, 'reject'), { arrivedAt })];
  t.equal(
    refusals.least(ask(0), 10, () => 330),
    330,
  );
  const again = (): LeastBudget => t.fail('a second search') as never;
  t.equal(refusals.least(ask(100), 110, again), 330, 'as much for an equal request that comes later');
  t.equal(refusals.least(ask(0), 110, again), 430, 'and more for one that has waited');
});
