/** Depth, pauses and prompts of the next step. */
import t from 'tap';
import {
  type Budget,
  type EngineState,
  type Policy,
  type SequenceView,
  defaultPolicy,
} from '../../src/router/index.js';
import {
  NOW,
  answering,
  asking,
  planOf,
  prompting,
  routerOf,
  stateOf,
  summaryOf,
  total,
  unstated,
} from './fixtures.js';
import { layers } from './sample.js';

/** In the middle of an answer that is to stay at an exit. */
const pinned = (id: string, exit: number, budget: Budget | null, more: Partial<SequenceView> = {}): SequenceView =>
  answering(id, budget, { minExit: exit, exit, maxExit: exit, ...more });
const exitsOf = (live: readonly SequenceView[], policy: Partial<Policy> = {}): ReadonlyMap<string, number> =>
  planOf(routerOf(policy), stateOf({ live })).exits;
const pausedOf = (live: readonly SequenceView[], now = NOW): readonly string[] =>
  planOf(routerOf(), stateOf({ live, now })).paused;
const exitOf = (each: SequenceView): number => exitsOf([each]).get(each.id) ?? 0;

void t.test('depth: a total and a TPOT bend depth where they have to', async (t) => {
  t.equal(exitOf(answering('a', total(2000))), 30);
  t.ok(exitOf(answering('a', total(1000 + 40 * 4))) < 30);
  t.equal(exitOf(answering('a', { ...unstated, tpotMs: 20 }, { firstTokenAt: NOW - 39 * 4 })), 30);
  t.ok(exitOf(answering('a', { ...unstated, tpotMs: 4.6 }, { firstTokenAt: NOW - 39 * 4 })) < 30);
});

void t.test('depth: a TTFT that is over bends no depth', async (t) => {
  const preempted = answering(
    'a',
    { ...total(20_000), ttftMs: 100 },
    { firstTokenAt: 90, frontier: layers.map(() => 0) },
  );
  t.equal(exitOf(preempted), 30);
});

void t.test('depth: an answer gets no deeper mid-stream, and a prompt begins as deep as it may', async (t) => {
  t.equal(exitOf(answering('a', total(60_000), { exit: 10 })), 10);
  t.equal(exitOf(prompting('a', total(60_000), { exit: 10 })), 30);
});

void t.test('depth: at light load an answer of estimated length keeps its exit', async (t) => {
  const more = { isExactLength: false, maxTokens: 8000, serviceClass: 'reserved' } as const;
  const hurried = answering('a', total(1000 + 60 * 4), more);
  t.equal(exitOf(hurried), 30, 'shallower rows are faster, but the answer likely gets longer');
  t.ok((exitsOf([hurried], { lightRequests: 0 }).get('a') ?? 0) < 30, 'without the rule');
  t.ok((exitsOf([{ ...hurried, serviceClass: 'guaranteed' }]).get('a') ?? 0) < 30, 'a guarantee comes first');
  const others = Array.from({ length: 6 }, (_, i) => answering(`b${i}`, total(60_000), more));
  t.ok((exitsOf([hurried, ...others]).get('a') ?? 0) < 30, 'with seven requests');
  t.equal(exitOf(prompting('a', total(1500), more)), 30, 'a prompt whose answer is likely in time');
  t.ok(exitOf(prompting('a', total(500), more)) < 30, 'a prompt whose answer is likely late');
});

void t.test('depth: an answer behind shallower thoughts begins like a prompt', async (t) => {
  const behind = (budget: Budget, more: Partial<SequenceView> = {}): SequenceView => {
    const stated = { isExactLength: false, maxTokens: 8000, serviceClass: 'reserved', ...more } as const;
    return answering('a', budget, { ...stated, frontier: layers.map((layer) => (layer === 10 ? 239 : 0)) });
  };
  t.equal(exitOf(behind(total(60_000))), 30, 'with time for the catch-up');
  t.ok(exitOf(behind(total(1000 + 60 * 4))) < 30, 'light load alone keeps no exit that the answer has not begun');
  t.ok(exitOf(behind(total(60_000), { exit: 10 })) < 30, 'nor does it change one that it has begun');
});

void t.test('depth: rows without a budget stay as deep as they may', async (t) => {
  const live = [answering('a', null), answering('b', null, { maxExit: 20, exit: 20 })];
  t.same([...exitsOf(live).values()], [30, 20]);
  const tight = Array.from({ length: 6 }, (_, i) => answering(`t${i}`, total(1250)));
  t.equal(exitsOf([...live, ...tight]).get('a'), 30);
});

void t.test('depth: guaranteed requests keep their time before those on best effort', async (t) => {
  const crowd = (mine: SequenceView['serviceClass'], theirs: SequenceView['serviceClass']): number => {
    const others = Array.from({ length: 8 }, (_, i) => answering(`o${i}`, total(1290), { serviceClass: theirs }));
    return exitsOf([answering('a', total(1300), { serviceClass: mine }), ...others]).get('a') ?? 0;
  };
  t.ok(crowd('guaranteed', 'best_effort') >= crowd('best_effort', 'guaranteed'));
});

void t.test('shedding by depth: off keeps full depth without budgets, on bends under load only', async (t) => {
  const many = (count: number): SequenceView[] =>
    Array.from({ length: count }, (_, i) =>
      prompting(`r${i}`, null, { arrivedAt: NOW - 1500, maxTokens: 40, exit: 10 }),
    );
  const shallow = (count: number, shedDepth: boolean): number =>
    [...exitsOf(many(count), { shedDepth }).values()].filter((exit) => exit < 30).length;
  t.equal(shallow(16, false), 0);
  t.equal(shallow(1, true), 0, 'idle: full depth');
  t.ok(shallow(16, true) > 0);
});

const loose = Array.from({ length: 8 }, (_, i) => pinned(`loose${i}`, 30, total(20_000)));
const free = (count: number, exit: number, lastTokenAt = NOW): SequenceView[] =>
  Array.from({ length: count }, (_, i) => pinned(`free${i}`, exit, null, { lastTokenAt }));
/** Needs all of the time until its deadline at the shallowest exit. */
const tight = (leftMs: number): SequenceView =>
  pinned('tight', 10, total(leftMs + 12), { arrivedAt: NOW, firstTokenAt: NOW });

void t.test('pauses: a sequence with a budget never pauses', async (t) => {
  t.strictSame(pausedOf([...loose, tight(150)]), []);
  t.strictSame(pausedOf([...loose, prompting('p', { ...unstated, ttftMs: 50 })]), []);
});

void t.test('pauses: rows without a budget give way to a tight deadline, and run where there is slack', async (t) => {
  t.strictSame(pausedOf([tight(2_000), ...free(1, 30)]), []);
  t.strictSame(pausedOf([tight(200), ...free(1, 30)]), ['free0']);
  t.strictSame(pausedOf([...free(3, 30)]), [], 'without a deadline all rows run');
});

void t.test('pauses: a row without a budget gets its share of the steps', async (t) => {
  t.strictSame(pausedOf([tight(200), ...free(1, 30, NOW)]), ['free0'], 'it had its turn');
  t.strictSame(pausedOf([tight(200), ...free(1, 30, NOW - 200)]), [], 'its turn has come');
});

void t.test(
  'pauses: rows ride along as long as there is slack, and a deep row pays for the layers that it brings',
  async (t) => {
    const pausing = (leftMs: number, count: number, exit: number): number =>
      pausedOf([tight(leftMs), ...free(count, exit)]).length;
    let some = 0;
    for (let leftMs = 150; leftMs < 800; leftMs += 10) {
      const count = pausing(leftMs, 12, 10);
      if (count > 0 && count < 12) some += 1;
      t.ok(pausing(leftMs, 1, 10) <= pausing(leftMs, 1, 30), `${leftMs} ms`);
    }
    t.ok(some > 0, 'some ride along and some pause');
    t.strictSame(pausing(150, 1, 30), 1);
  },
);

void t.test('pauses: ids that pause are live, and late requests make no row pause', async (t) => {
  const gone = pinned('gone', 10, total(500), { arrivedAt: NOW - 5000 });
  t.strictSame(pausedOf([gone, ...free(3, 30)]), []);
});

/** Positions of the prompt that go on; 0 where it waits. */
function chunkOf(state: EngineState, policy: Partial<Policy> = {}): { id: string; positions: number } | null {
  const router = routerOf(policy);
  const { paused } = planOf(router, state);
  return router.choosePrefill(summaryOf(state), new Set(paused), () => state)[0] ?? null;
}
const positionsOf = (live: readonly SequenceView[], policy: Partial<Policy> = {}): number =>
  chunkOf(stateOf({ live }), policy)?.positions ?? 0;

void t.test('prefill: nothing goes on where no prompt is', async (t) => {
  t.equal(chunkOf(stateOf({ live: [answering('a', null)] })), null);
  t.equal(chunkOf(stateOf()), null);
});

void t.test('prefill: a prompt that is alone takes the largest chunk, up to its last position', async (t) => {
  const largest = defaultPolicy.chunks.at(-1) ?? 0;
  t.equal(positionsOf([prompting('p', null)], { maxStallMs: 5 }), Math.min(largest, 199), 'no row is stalled');
  t.equal(positionsOf([prompting('p', null, { promptLength: 50 })]), 49);
});

void t.test('prefill: a longer stall allows larger chunks', async (t) => {
  const live = [answering('old', null, { exit: 10, maxExit: 10 }), prompting('p', null)];
  const [short, long] = [positionsOf(live, { maxStallMs: 5 }), positionsOf(live, { maxStallMs: 500 })];
  t.ok(short > 0 && short < long, `${short} and ${long}`);
});

/** Prompts that go on in one step, and their positions. */
function chunksOf(live: readonly SequenceView[], policy: Partial<Policy> = {}): [string, number][] {
  const state = stateOf({ live });
  const router = routerOf(policy);
  const { paused } = planOf(router, state);
  return router
    .choosePrefill(summaryOf(state), new Set(paused), () => state)
    .map(({ id, positions }) => [id, positions]);
}

void t.test('prefill: short prompts share a step within the stall, in order of service', async (t) => {
  const short = (id: string): SequenceView => prompting(id, null, { promptLength: 17, exit: 10, maxExit: 10 });
  const burst = ['a', 'b', 'c', 'd'].map(short);
  const row = answering('row', null, { exit: 10, maxExit: 10 });
  t.same(
    chunksOf([row, ...burst], { maxStallMs: 500 }),
    ['a', 'b', 'c', 'd'].map((id) => [id, 16]),
  );
  t.same(chunksOf([row, ...burst], { maxStallMs: 1, prefillShare: 0.01 }), [['a', 16]]);
  t.same(chunksOf(burst, { maxStallMs: 500 }).length, 4, 'the first one decodes in the same step');
});

void t.test('prefill: a prompt that copies its prefix from another one is in no step with it', async (t) => {
  const leader = prompting('leader', null, { promptLength: 17 });
  const follower = prompting('follower', null, { promptLength: 17, expectedFrontier: leader.frontier.map(() => 16) });
  const other = prompting('other', null, { promptLength: 17 });
  const ids = chunksOf([leader, follower, other], { maxStallMs: 500 }).map(([id]) => id);
  t.same(ids, ['leader', 'other']);
});

void t.test('prefill: beside a deadline, a step has one prompt', async (t) => {
  const prompts = ['a', 'b'].map((id) => prompting(id, null, { promptLength: 33 }));
  t.equal(chunksOf(prompts, { maxStallMs: 500 }).length, 2);
  t.equal(chunksOf([...prompts, answering('due', total(5000))], { maxStallMs: 500 }).length, 1);
});

void t.test('prefill: rows that take long leave prompts their share of a step', async (t) => {
  const rows = Array.from({ length: 8 }, (_, i) => answering(`row${i}`, null));
  const prompt = prompting('p', null);
  const positions = (prefillShare: number): number =>
    chunksOf([...rows, prompt], { maxStallMs: 1, prefillShare })[0]?.[1] ?? 0;
  t.equal(positions(0.01), 16);
  t.ok(positions(0.8) > 16, `${positions(0.8)}`);
  t.ok(positions(0.8) > positions(0.5), `${positions(0.5)}`);
});

void t.test(
  'prefill: a chunk is as small as the TPOT of a decoding row asks for, while that can be kept',
  async (t) => {
    const beside = (tpotMs: number): number =>
      positionsOf([answering('paced', { ...unstated, tpotMs }), prompting('p', total(5000), { minExit: 30 })]);
    t.equal(beside(30), 128);
    const small = beside(8.3);
    t.ok(small > 0 && small < 128, `${small}`);
    t.equal(beside(5), 128, 'a row that misses its TPOT anyway delays no prompt');
  },
);

void t.test('prefill: a prompt without a budget waits for deadlines of known lengths, but not for ever', async (t) => {
  const some = Array.from({ length: 4 }, (_, i) => answering(`tight${i}`, total(1220)));
  t.equal(positionsOf([...some, prompting('p', null)]), 0, 'it just came');
  t.ok(positionsOf([...some, prompting('p', null, { arrivedAt: -20_000 })]) > 0, 'its share of the machine is due');
});

void t.test('prefill: the prompt that is due first goes first, and a hopeless one last', async (t) => {
  const next = (live: readonly SequenceView[]): string | undefined => chunkOf(stateOf({ live }))?.id;
  const [a, b] = [prompting('a', total(900)), prompting('b', total(800))];
  t.equal(next([a, b]), 'b');
  t.equal(next([a, prompting('none', null)]), 'a');
  const late = prompting('late', total(500), { arrivedAt: NOW - 700 });
  t.equal(next([late, a]), 'a');
  t.equal(next([late]), 'late', 'where no other prompt waits, it goes on');
});

void t.test('prefill: a prompt that lost its slot since the plan is passed over', async (t) => {
  const router = routerOf();
  const live = [prompting('a', total(800)), prompting('b', total(900))];
  planOf(router, stateOf({ live }));
  const left = stateOf({ live: live.slice(1) });
  t.equal(router.choosePrefill(summaryOf(left), new Set(), () => left)[0]?.id, 'b');
});

void t.test('prefill: what advancing a sequence runs is the part that its exit lacks', async (t) => {
  const work = routerOf().advanceWork([100, 100, 60, 0, 0], 2, 150);
  t.same(
    work.map(({ positions, context, from, to }) => [positions, context, from, to]),
    [
      [50, 100, 0, 2],
      [90, 60, 2, 3],
    ],
  );
});

void t.test('a plan without any budget asks for nothing to be weighed', async (t) => {
  const state = stateOf({ live: [answering('a', null)], waiting: [asking('w', null)] });
  t.same(
    routerOf().planStep(summaryOf(state), () => state),
    { exits: [{ id: 'a', exit: 30 }], paused: [] },
  );
});
