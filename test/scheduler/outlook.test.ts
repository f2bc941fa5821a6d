/** The outlook: how each request fares, by formulas. */
import t from 'tap';
import { at } from '../../src/util/at.js';
import { type Fate, leastOrPresent, outlook, type OutlookTerms } from '../../src/engine/scheduler/outlook.js';
import type { Sequence } from '../../src/engine/scheduler/sequence.js';
import { inOrder, type Occupancy, type Snapshot } from '../../src/engine/scheduler/snapshot.js';
import { NOW, answering, asking, natural, prompting, snapshot, total } from './fixtures.js';

/** By id, with every prompt at its shallowest exit. */
function fatesOf(
  parts: Partial<Occupancy>,
  more: Partial<OutlookTerms> = {},
): { state: Snapshot; of: (id: string) => Fate } {
  const state = snapshot(parts);
  const terms = { slots: state.engine.slots, exitOf: leastOrPresent, ...more };
  const { fates } = outlook(state, inOrder(state.requests), terms);
  const byId = new Map([...fates].map(([{ sequence }, fate]) => [sequence.id, fate]));
  return {
    state,
    of: (id) => {
      const fate = byId.get(id);
      if (fate === undefined) throw new Error(`request ${id} has no fate`);
      return fate;
    },
  };
}
const prompt = (id: string, totalMs: number, slot = true): Sequence =>
  (slot ? prompting : asking)(id, total(totalMs, 'land'), natural);
const isNear = (found: number, expected: number): boolean => Math.abs(found - expected) < 1e-6 * Math.max(1, expected);

void t.test('a row takes a step for each token', async (t) => {
  const row = answering('a', total(9000));
  const { of, state } = fatesOf({ live: [row] });
  const { fixedMs, rowMs } = at(state.costs, 4);
  t.ok(isNear(of('a').readyAt, 40 * (fixedMs + rowMs)), `${of('a').readyAt}`);
  t.ok(isNear(of('a').tokenMs, fixedMs + rowMs));
});

void t.test('a row takes a step for each chunk of the prompts ahead of it', async (t) => {
  const row = answering('row', total(20_000), { maxTokens: 41 });
  const { of, state } = fatesOf({ live: [prompting('soon', total(9000, 'land'), { promptLength: 900 }), row] });
  const { fixedMs, rowMs } = at(state.costs, 4);
  t.ok(of('row').readyAt > at(state.requests, 0).prefillMs(0) + 5 * (fixedMs + rowMs), `${of('row').readyAt}`);
});

void t.test('prompts go one after the other by their deadlines, each chunk beside a token of every row', async (t) => {
  const live = [prompt('late', 9001), prompt('soon', 9000), answering('row', null)];
  const { of, state } = fatesOf({ live });
  const ms = at(state.requests, 0).prefillMs(0);
  const row = at(state.costs, 4);
  const rowMs = row.fixedMs + row.rowMs;
  const withOne = rowMs + at(state.costs, 0).rowMs;
  const withTwo = withOne + at(state.costs, 0).rowMs;
  t.ok(isNear(of('soon').firstAt, ms + 2 * rowMs + withOne), `${of('soon').firstAt}`);
  t.ok(isNear(of('late').firstAt, 2 * ms + 2 * rowMs + 2 * withOne + withTwo), `${of('late').firstAt}`);
});

void t.test('the prompts behind a request make its tokens take longer', async (t) => {
  const alone = fatesOf({ live: [prompt('a', 900)] }).of('a');
  const beside = fatesOf({ live: [prompt('a', 900), prompt('b', 9000)] }).of('a');
  t.ok(isNear(alone.firstAt, beside.firstAt), 'its first one does not wait');
  t.ok(beside.tokenMs > 1.1 * alone.tokenMs, `${beside.tokenMs} and ${alone.tokenMs} ms`);
});

void t.test(
  'a request without a slot waits for the first of the rows that ends, and not for a mean answer',
  async (t) => {
    const rows = (count: number) => Array.from({ length: count }, (_, i) => answering(`row${i}`, null, natural));
    const waitOf = (count: number): number =>
      fatesOf({ live: rows(count), waiting: [prompt('new', 60_000, false)], slots: count }).of('new').firstAt;
    const free = fatesOf({ live: rows(8), waiting: [prompt('new', 60_000, false)], slots: 9 }).of('new').firstAt;
    t.ok(waitOf(8) > free, 'a free slot is no wait');
    t.ok(waitOf(8) < 0.5 * waitOf(1), `${waitOf(8)} ms behind eight rows, ${waitOf(1)} behind one`);
    const careful = fatesOf(
      { live: rows(8), waiting: [prompt('new', 60_000, false)], slots: 8 },
      { isCareful: true },
    ).of('new').firstAt;
    t.ok(careful > waitOf(8), 'a promise counts on later ends');
  },
);

void t.test('a row leaves its slot at its deadline, or with its exact length', async (t) => {
  const waitBehind = (row: Sequence): number =>
    fatesOf({ live: [row], waiting: [prompt('new', 60_000, false)], slots: 1 }).of('new').firstAt;
  const own = fatesOf({ live: [prompt('new', 60_000)] }).of('new').firstAt;
  const landing = answering('row', total(NOW + 100, 'land'), natural);
  t.ok(waitBehind(landing) <= 100 + own + 20, `${waitBehind(landing)} ms`);
  const exact = waitBehind(answering('row', null));
  t.ok(exact > 40 * 5, `${exact} ms behind 40 tokens`);
});

void t.test('a promise without slack holds up a prompt behind it, and a late one does not', async (t) => {
  const startOf = (ms: number): number => {
    const promised = answering('promise', total(NOW + 12 + ms), { serviceClass: 'guaranteed' });
    return fatesOf({ live: [promised, prompt('new', 60_000)] }).of('new').firstAt;
  };
  const { readyAt } = fatesOf({ live: [answering('promise', total(NOW + 9000))] }).of('promise');
  t.ok(startOf(readyAt + 1) >= readyAt, 'it begins behind the promise');
  t.ok(startOf(readyAt + 1) > startOf(10 * readyAt), 'there is time for both');
  t.ok(isNear(startOf(readyAt - 1), startOf(10 * readyAt)), 'it is late anyway');
});

void t.test('a factor lengthens all times, and more slots than requests change none', async (t) => {
  const live = [prompt('a', 9000), prompt('b', 9001), answering('row', null)];
  const [one, two] = [fatesOf({ live }), fatesOf({ live }, { factor: 2 })];
  for (const id of ['a', 'b', 'row'] as const) t.ok(isNear(two.of(id).readyAt, 2 * one.of(id).readyAt), id);
  t.same(fatesOf({ live, slots: 64 }).of('b'), one.of('b'));
});
