/** The least budget that a rejection names. */
import t from 'tap';
import type { Sequence } from '../../src/engine/scheduler/sequence.js';
import type { Admission } from '../../src/engine/scheduler/types.js';
import { type Given, NOW, answering, asking, natural, plannerOf, stateOf, total, within } from './fixtures.js';

const choices = (id: string, count: number, given: Given = {}): Sequence[] =>
  Array.from({ length: count }, (_, i) => asking(`${id}-${i}`, total(2, 'reject'), { ...natural, ...given }));
const leastOf = (each: Admission | undefined): number | null => {
  if (each?.kind !== 'reject') throw new Error('the request was to be rejected');
  return each.leastFeasibleMs;
};

void t.test('each rejection of a flood of choices has its number', async (t) => {
  const live = Array.from({ length: 31 }, (_, i) => answering(`row${i}`, total(20_000 + i, 'land'), natural));
  const flood = Array.from({ length: 8 }, (_, i) =>
    choices(`bad${i}`, 64, { tenant: 'bad', promptLength: 200 + i, arrivedAt: NOW - i / 10 }),
  );
  const all = plannerOf().admit(
    [...flood.flat(), ...choices('good', 1, { tenant: 'good' })],
    stateOf({ live, slots: 32 }),
  );
  t.equal(all.length, 8 * 64 + 1);
  t.ok(all.every((each) => typeof leastOf(each) === 'number'));
});

void t.test('an equal request with more time is decided by itself', async (t) => {
  const [first] = plannerOf().admit(choices('a', 1), stateOf());
  const ample = asking('b', total((leastOf(first) ?? NaN) + 50, 'reject'), natural);
  const kinds = plannerOf().admit([...choices('a', 1), ample, ...choices('c', 1)], stateOf());
  t.same(
    kinds.map(({ kind }) => kind),
    ['reject', 'admit', 'reject'],
  );
});

void t.test('a number counts from arrival: a request that has waited gets a greater one', async (t) => {
  const waited = (ms: number): number =>
    leastOf(plannerOf().admit(choices('a', 1, { arrivedAt: NOW - ms }), stateOf())[0]) ?? NaN;
  t.ok(waited(100) >= waited(0) + 100, `${waited(100)} and ${waited(0)} ms`);
});

void t.test('requests of a burst are refused as each would be alone, with a number that is enough', async (t) => {
  const live = Array.from({ length: 16 }, (_, i) => answering(`row${i}`, total(20_000 + i, 'land'), natural));
  const state = stateOf({ live, slots: 16 });
  const burst = [200, 40, 120, 300, 80, 300].map((promptLength, i) =>
    asking(`b${i}`, total(60, 'land'), { ...natural, promptLength }),
  );
  const alone = burst.map((each) => leastOf(plannerOf().admit([each], state)[0]) ?? NaN);
  const together = plannerOf()
    .admit(burst, state)
    .map((each) => leastOf(each) ?? NaN);
  for (const [i, ms] of together.entries()) t.ok(ms >= (alone[i] ?? NaN), `${ms} of ${alone[i]} ms`);
  t.ok(Math.max(...together) <= Math.max(...alone) + burst.length, 'no number is above that of the longest prompt');
  const retried = burst.map((each, i) => within(each, total(together[i] ?? NaN, 'reject')));
  for (const each of retried) t.equal(plannerOf().admit([each], state)[0]?.kind, 'admit');
});
