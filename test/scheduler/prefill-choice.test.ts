/** Which prompts go on in a step, and how far. */
import t from 'tap';
import { at } from '../../src/util/at.js';
import type { Budget, OnMiss } from '../../src/protocol/index.js';
import { chunkOf, fitting } from '../../src/engine/scheduler/chunks.js';
import { defaultPolicy, type Policy, chunkSizes } from '../../src/engine/scheduler/policy.js';
import type { Sequence } from '../../src/engine/scheduler/sequence.js';
import { NOW, answering, within, natural, planOf, prompting, plannerOf, stateOf, total, unstated } from './fixtures.js';
import { layers, sample } from './sample.js';
import { SERVE_OPTIONS } from '../../src/cli/options/config.js';

/** [id, positions] of each prompt that goes on in a step. */
function chunksOf(live: readonly Sequence[], policy: Partial<Policy> = {}): (readonly [string, number])[] {
  return planOf(plannerOf(policy), stateOf({ live })).chunks.map(({ id, positions }) => [id, positions] as const);
}
const firstOf = (live: readonly Sequence[], policy: Partial<Policy> = {}): number =>
  chunksOf(live, policy)[0]?.[1] ?? 0;
const largest = at(defaultPolicy.chunks, defaultPolicy.chunks.length - 1);
const short = (id: string, budget: Budget | null = null): Sequence => prompting(id, budget, { promptLength: 17 });

void t.test(
  'a prompt that is alone takes the largest chunk, up to its last position, which is a decode step',
  async (t) => {
    const at = (done: number): Sequence => prompting('p', null, { frontier: layers.map(() => done) });
    t.same(chunksOf([answering('a', null)]), []);
    t.same(chunksOf([prompting('p', null, { promptLength: 2000 })], { maxStallMs: 1 }), [['p', largest]]);
    t.same(chunksOf([at(190)]), [['p', 9]]);
    t.same(chunksOf([at(198)]), [['p', 1]]);
    t.same(chunksOf([at(199)]), []);
    const preempted = answering('p', null, { generated: 40, frontier: layers.map(() => 190) });
    t.same(chunksOf([preempted]), [['p', 49]], 'a preempted sequence prefills its prompt and its answer');
  },
);

void t.test('a longer stall allows larger chunks, and the smallest one always goes on', async (t) => {
  const live = [answering('row', total(60_000, 'land'), natural), prompting('p', null)];
  t.equal(firstOf(live, { maxStallMs: 1 }), 16);
  const [some, all] = [firstOf(live, { maxStallMs: 20 }), firstOf(live, { maxStallMs: 500 })];
  t.ok(some > 16 && some < all, `${some} and ${all}`);
  t.equal(all, largest);
});

void t.test('short prompts share a step within the stall, in order of service', async (t) => {
  const ids = ['a', 'b', 'c', 'd'];
  const row = answering('row', null);
  const burst = ids.map((id) => short(id));
  t.same(
    chunksOf([row, ...burst], { maxStallMs: 500 }),
    ids.map((id) => [id, 16]),
  );
  t.same(chunksOf([row, ...burst], { maxStallMs: 1, prefillShare: 0.01 }), [['a', 16]]);
  const due = ids.map((id, i) => short(id, total(5000 - i, 'land')));
  t.same(
    chunksOf([row, ...due], { maxStallMs: 500 }).map(([id]) => id),
    [...ids].reverse(),
    'the earliest deadline goes first',
  );
});

void t.test(
  'beside a deadline a prompt whose chunk does not end it leaves the rest of the step to the rows',
  async (t) => {
    const live = [answering('row', null), prompting('long', null, { promptLength: 900 }), short('short')];
    t.equal(chunksOf(live, { maxStallMs: 500 }).length, 2);
    const due = live.map((each) => within(each, total(60_000)));
    t.same(chunksOf(due, { maxStallMs: 500 }), [['long', largest]]);
  },
);

void t.test('rows without deadlines that take long leave prompts their share of a step', async (t) => {
  const rows = Array.from({ length: 8 }, (_, i) => answering(`row${i}`, null));
  const positions = (prefillShare: number, budget: Budget | null = null): number =>
    firstOf([...rows, prompting('p', budget)], { maxStallMs: 1, prefillShare });
  t.equal(positions(0.01), 16);
  t.ok(positions(0.5) >= 16 && positions(0.8) > positions(0.5), `${positions(0.5)} and ${positions(0.8)}`);
  t.equal(positions(0.8, total(60_000, 'land')), 16, 'beside a deadline the stall holds');
});

void t.test('a chunk is as small as the TPOT of a row asks for, while that can be kept', async (t) => {
  const beside = (tpotMs: number): number =>
    firstOf([answering('paced', { ...unstated, tpotMs }), prompting('p', total(5000), { minExit: 30 })]);
  t.equal(beside(30), largest);
  const small = beside(8.3);
  t.ok(small > 0 && small < largest, `${small}`);
  t.equal(beside(5), largest, 'a row that misses its TPOT anyway delays no prompt');
});

void t.test(
  'a prompt waits for a row whose exact length needs all of its time, and not for one that lands',
  async (t) => {
    const prompt = prompting('p', null);
    const decode = { rows: [0, 0, 0, 0, 1], context: 239 };
    const restMs = 40 * plannerOf().predictMs({ decode, prefill: [] }) * (1 + defaultPolicy.margin);
    const inMs = (ms: number, onMiss: OnMiss = 'continue'): Budget =>
      total(NOW + defaultPolicy.requestOverheadMs + ms, onMiss);
    t.same(chunksOf([answering('row', inMs(1.02 * restMs)), prompt]), []);
    t.equal(firstOf([answering('row', inMs(2 * restMs)), prompt]), largest, 'there is time for both');
    t.equal(firstOf([answering('row', inMs(1.02 * restMs, 'land'), natural), prompt]), largest, 'it may land earlier');
    t.equal(firstOf([answering('row', inMs(0.5 * restMs)), prompt]), largest, 'it is late anyway');
  },
);

void t.test('the prompt that is due first goes first, and one without a deadline behind its share', async (t) => {
  const next = (live: readonly Sequence[]): string | undefined => {
    const planner = plannerOf();
    // The first prompt without a deadline has its share at once.
    planOf(planner, stateOf({ live: [prompting('share', null), prompting('due', total(60_000))] }));
    return planOf(planner, stateOf({ live, now: NOW + 1 })).chunks[0]?.id;
  };
  const [a, b] = [prompting('a', total(900)), prompting('b', total(800))];
  t.equal(next([a, b]), 'b');
  t.equal(next([prompting('none', null), a]), 'a');
  const late = prompting('late', total(500), { arrivedAt: NOW - 700 });
  t.equal(next([late, a]), 'a', 'a hopeless one is last');
  t.equal(next([late]), 'late', 'where no other prompt waits, it goes on');
});

void t.test('a prompt without a deadline gets its share of the prefill, whatever else waits', async (t) => {
  const planner = plannerOf();
  const long = { promptLength: 100_000 };
  const live = [prompting('due', total(1e7, 'land'), { ...natural, ...long }), prompting('free', null, long)];
  const msOf = { due: 0, free: 0 };
  for (let now = NOW; now < NOW + 60_000;) {
    const [chunk] = planOf(planner, stateOf({ live, now })).chunks;
    if (chunk === undefined) throw new Error('a prompt goes on');
    const { id, positions } = chunk;
    const ms = planner.predictMs({ decode: null, prefill: [{ exit: 4, positions, context: 0, chunk: positions }] });
    msOf[id as keyof typeof msOf] += ms;
    now += ms;
  }
  const share = msOf.free / (msOf.free + msOf.due);
  t.ok(Math.abs(share - defaultPolicy.noBudgetShare) < 0.02, `${share} of the prefill`);
});

void t.test('the command line and the scheduler assume the same', async (t) => {
  t.same(defaultPolicy.chunks, chunkSizes(SERVE_OPTIONS.prefillChunk.default));
  t.same([chunkSizes(100), chunkSizes(8)], [[16, 32, 64, 100], [8]]);
});

/** A sequence of 40 tokens, of which the units lack so many. */
const lacking = (...left: readonly number[]): Sequence =>
  prompting('a', null, { promptLength: 40, frontier: layers.map((_, unit) => 39 - (left[unit] ?? left.at(-1) ?? 0)) });

void t.test('a chunk ends at the positions that the exit needs, and leaves no single position', async (t) => {
  const endOf = (most: number, ...left: number[]): number => chunkOf(lacking(...left), most, sample).end;
  t.same([endOf(8, 0, 29), endOf(128, 0, 29), endOf(28, 0, 29), endOf(8, 39)], [18, 39, 37, 8]);
});

void t.test('a step takes the first chunks that fit into one run, and one at least', async (t) => {
  const chunks = [10, 8, 20, 1].map((left) => chunkOf(lacking(left), 99, sample));
  const taken = (mostPrefill: number): number[] => fitting(chunks, mostPrefill).map(({ positions }) => positions);
  t.same(taken(Infinity), [10, 8, 20, 1]);
  t.same([taken(18), taken(4)], [[10, 8], [10]]);
  t.same(taken(37), [10, 8], 'a chunk that fits does not overtake one that does not');
});
