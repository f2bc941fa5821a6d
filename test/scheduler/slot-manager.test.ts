/** Slots and prefixes of sequences: on slots of two stages whose positions take a byte each, without a model. */
import t from 'tap';
import { findPrefix } from '../../src/engine/scheduler/kv/prefix.js';
import type { SequenceRequest, ServiceClass } from '../../src/protocol/index.js';
import { SlotManager, type SlotManagerLimits } from '../../src/engine/scheduler/slot-manager.js';
import { Sequence } from '../../src/engine/scheduler/sequence.js';
import { Slot, unitsOf } from '../../src/engine/scheduler/kv/units.js';
import { SlotTable } from '../../src/engine/scheduler/kv/slot-table.js';
import { greedy } from '../../bench/greedy-request.js';

const units = unitsOf({
  stages: [0, 1].map((boundary) => ({ entry: { layers: 1, boundary } })),
  exits: [0, 1].map((stage) => ({ entry: { layer: stage + 1, stage, norm: 0 }, block: null })),
});
const { exits } = units;
const [SHALLOW, DEEP] = [0, 1];

/** A slot manager with enough bytes for all tests that set no limit. */
function over(
  slots: number,
  limits: Partial<SlotManagerLimits> = {},
  rowMs: readonly number[] = [],
): { slotManager: SlotManager; table: SlotTable } {
  const table = new SlotTable(slots, units, 2);
  const all = { maxRunning: slots, maxQueue: 9, kvBytes: 1e6, prefixReuse: true, ...limits };
  return { slotManager: new SlotManager(table, all, rowMs), table };
}

/** A prompt of this length. Prompts of one kind share their beginning. */
const prompt = (length: number, kind = 0): number[] => Array.from({ length }, (_, i) => 1000 * kind + i);

function sequence(id: string, tokens: readonly number[], more: Partial<SequenceRequest> = {}, exit = DEEP): Sequence {
  return new Sequence(greedy(id, tokens, exit + 1, 9, { arrivedAt: 0, ...more }), exits);
}

function start(slotManager: SlotManager, ...sequences: Sequence[]): void {
  for (const each of sequences) slotManager.waiting.push(each);
  startWaiting(slotManager, 0);
}

/** Starts the waiting in their present order. */
function startWaiting(slotManager: SlotManager, now: number): void {
  slotManager.start([...slotManager.waiting], now);
}

/** Processes all tokens of a sequence except the last, in the stages it needs. */
function prefill({ slot, tokens, exit }: Sequence): void {
  for (const unit of exits[exit]?.needed ?? []) slot?.reach(unit, tokens.length - 1);
}

/** Runs a sequence from start to end, so that it becomes a stored prefix. */
function store(slotManager: SlotManager, id: string, tokens: readonly number[]): void {
  const each = sequence(id, tokens);
  start(slotManager, each);
  prefill(each);
  slotManager.finish(each);
}

/** Positions of a prompt that a new sequence finds stored. */
function foundIn(slotManager: SlotManager, tokens: readonly number[], prefixSpace?: string): number {
  const probe = sequence('probe', tokens, prefixSpace === undefined ? {} : { prefixSpace });
  slotManager.lookUp(probe);
  return probe.frontier(0);
}

/** Sequences of one prompt that wait together, started. */
function burst(slotManager: SlotManager, ...all: string[]): [Sequence, ...Sequence[]] {
  const [first, ...others] = all.map((id) => sequence(id, prompt(40)));
  if (first === undefined) throw new Error('a burst has a sequence');
  for (const each of [first, ...others]) {
    slotManager.lookUp(each);
    slotManager.waiting.push(each);
  }
  startWaiting(slotManager, 0);
  return [first, ...others];
}

void t.test('a sequence starts if its prompt and one token fit; a lone sequence always starts', async (t) => {
  const [first, second] = [sequence('first', prompt(40)), sequence('second', prompt(20, 1))];
  for (const [kvBytes, running] of [
    [2 * 41 + 2 * 21, 2],
    [2 * 41 + 2 * 21 - 1, 1],
    [10, 1],
  ] as const) {
    const { slotManager } = over(2, { kvBytes });
    start(slotManager, first, second);
    t.equal(slotManager.running.length, running, `${kvBytes} bytes`);
  }
});

void t.test('a prefix counts as cached at the first start of a sequence only', async (t) => {
  const { slotManager, table } = over(3);
  store(slotManager, 'stored', prompt(40));
  const resumed = sequence('resumed', [...prompt(40).slice(0, 30), 7, 8, 9, 10]);
  start(slotManager, resumed);
  t.equal(resumed.cachedTokens, 30);
  // The sequence was preempted, and another one prefilled the same prompt meanwhile.
  slotManager.running.splice(0);
  if (resumed.slot) table.drop(resumed.slot);
  Object.assign(resumed, { slot: null, preemptions: 1 });
  store(slotManager, 'other', resumed.tokens);
  start(slotManager, resumed);
  t.match(resumed, { slot: { length: 33 }, cachedTokens: 30 }, 'it takes over the stored positions');
});

void t.test('of stored prefixes the one goes first that ended or was copied the longest ago', async (t) => {
  const { slotManager } = over(4, { kvBytes: 2 * 160 });
  store(slotManager, 'system', prompt(80));
  store(slotManager, 'once', prompt(40, 1));
  t.same([foundIn(slotManager, prompt(90)), foundIn(slotManager, prompt(90, 1))], [79, 39]);
  // Taking over its slot would lose most of it, so the shared part is copied.
  const copies = sequence('copies', [...prompt(30), 7, 8, 9, 10]);
  start(slotManager, copies);
  t.equal(copies.slot?.length, 30);
  start(slotManager, sequence('long', prompt(40, 3)));
  t.same([foundIn(slotManager, prompt(90)), foundIn(slotManager, prompt(90, 1))], [79, 0]);
});

void t.test('if the last slot holds the prefix, it is truncated to the shared part', async (t) => {
  const { slotManager } = over(2);
  store(slotManager, 'stored', prompt(100));
  const [live, next] = [sequence('live', prompt(20, 1)), sequence('next', [...prompt(40), 7, 8, 9, 10])];
  start(slotManager, live, next);
  t.equal(next.slot?.length, 40);
  t.equal(next.cachedTokens, 40);
});

/** Positions of the best prefix of some tokens in these slots. */
function prefixIn(slots: readonly Slot[], tokens: readonly number[], page = 1, exit = DEEP, own: Slot | null = null) {
  const asking = Object.assign(sequence('asks', tokens, {}, exit), { slot: own });
  const found = findPrefix(asking, { slots, granularity: page });
  return found && { index: found.slot.index, length: found.length };
}

/** A slot with a prompt, whose stages have processed so many positions. */
function slotWith(index: number, tokens: number[], ...frontiers: readonly number[]): Slot {
  const slot = Object.assign(new Slot(index, 2), { tokens });
  for (const [unit, end] of frontiers.entries()) slot.reach(unit, end);
  return slot;
}

void t.test('a prefix is the longest exact match, of whole pages, and little is worth none', async (t) => {
  const tokens = [...prompt(40), 7, 8, 9];
  const found = (of: readonly number[], page = 1) =>
    prefixIn([slotWith(0, prompt(40), 40, 0)], of, page, SHALLOW)?.length;
  t.equal(found(tokens), 40);
  t.equal(found(tokens.slice(0, 42)), 39, 'never a single position to prefill');
  t.equal(found(tokens.slice(0, 41)), 40, 'with nothing to prefill, all but the last');
  t.equal(found(tokens.slice(0, 18)), 17);
  t.equal(found(tokens.slice(0, 16)), undefined, 'fewer than 16 can be reused');
  t.equal(found([5, ...tokens]), undefined);
  t.same([found([...prompt(21), 7, 8, 9]), found([...prompt(21), 7, 8, 9], 16), found(tokens, 16)], [21, 16, 32]);
});

void t.test('of prefixes the one that saves most at an exit, beyond the own slot', async (t) => {
  const [shallow, deep] = [slotWith(0, prompt(60), 50, 0), slotWith(1, prompt(60), 40, 40)];
  const found = (exit: number, own: Slot | null = null) => prefixIn([shallow, deep], prompt(60), 1, exit, own);
  t.same(found(SHALLOW), { index: 0, length: 50 });
  t.same(found(DEEP), { index: 1, length: 40 });
  t.equal(found(DEEP, deep), null, '10 further positions are too few');
  t.same(found(DEEP, shallow), { index: 1, length: 40 });
  shallow.reach(0, 60);
  t.match(prefixIn([shallow], prompt(60)), { length: 57 }, 'the deeper units have positions to process');
  const own = (length: number): Slot => slotWith(1, prompt(38), length, length);
  const paged = (length: number) =>
    prefixIn([slotWith(0, prompt(40), 39, 39)], [...prompt(38), 7, 8], 16, DEEP, own(length));
  t.match(paged(24), { length: 32 });
  t.equal(paged(25), null, 'seven positions of two units');
});

void t.test('rows start side by side, deep ones together', async (t) => {
  const { slotManager } = over(8, {}, [1, 1]);
  const placed = (id: string, exit: number): Sequence => {
    const each = sequence(id, prompt(20, slotManager.running.length + 1), {}, exit);
    start(slotManager, each);
    prefill(each);
    return each;
  };
  const places = (): string => slotManager.running.map(({ id, slot }) => `${id}${slot?.index}`).join(' ');
  const [a, b, c, d] = [placed('a', DEEP), placed('b', SHALLOW), placed('c', SHALLOW), placed('d', DEEP)];
  t.equal(places(), 'a0 b1 c2 d3', 'a batch begins at any slot and has no gap');
  for (const each of [b, d]) slotManager.finish(each);
  placed('e', DEEP);
  t.equal(places(), 'a0 c2 e1', 'the gap, although other slots are empty');
  for (const each of [a, c]) slotManager.finish(each);
  placed('f', DEEP);
  t.equal(places(), 'e1 f0', 'of equal places the slot that was used least recently');
});

void t.test(
  'a sequence moves into a gap if the rows in vain cost more than the copy and the lost prefix',
  async (t) => {
    for (const [rowMs, index] of [
      [1, 1],
      [0.1, 2],
    ] as const) {
      const { slotManager, table } = over(4, {}, [rowMs, rowMs]);
      const all = [20, 20, 10].map((length, kind) => sequence(`of ${kind}`, prompt(length, kind)));
      start(slotManager, ...all);
      for (const each of all) prefill(each);
      if (all[1]) slotManager.finish(all[1]);
      table.takeOps();
      slotManager.placement.closeGap(slotManager.running);
      const [first, , last] = all;
      t.equal(first?.slot?.index, 0);
      t.match(last?.slot, { index, length: 9, live: true, tokens: last?.tokens });
      const units = [0, 1].map((of) => ({ of, start: 0, end: 9 }));
      t.strictSame(
        table.takeOps(),
        index === 2 ? [] : [{ op: 'copy', from: 2, to: 1, units, boundaries: [] }],
        `${rowMs} ms a row`,
      );
      t.equal(table.slots.filter(({ live }) => live).length, 2);
    }
  },
);

void t.test('a common prefix is copied once a slot', async (t) => {
  const { slotManager, table } = over(2, {}, [1, 1]);
  const copies = (kind: number): number => {
    const each = sequence(`of ${kind}`, [...prompt(20), ...prompt(40, kind)]);
    start(slotManager, each);
    prefill(each);
    t.equal(each.cachedTokens, kind === 1 ? 0 : 20);
    slotManager.finish(each);
    return table.takeOps().length;
  };
  t.same([1, 2, 3, 4].map(copies), [0, 1, 0, 0]);
});

void t.test('after the first copy, other prompts copy a prefix only while the step has time', async (t) => {
  const { slotManager } = over(4);
  const [first, ...others] = burst(slotManager, 'first', 'b', 'c', 'd');
  const takenWithin = (ms: number): number[] => {
    slotManager.shareAll(ms);
    return others.map(({ slot }) => slot?.length ?? 0);
  };
  first.slot?.reach(0, 20);
  first.slot?.reach(1, 20);
  t.ok(others.every((each) => slotManager.awaits(each, [first])));
  t.same(takenWithin(Infinity), [0, 0, 0], 'it computes positions for them');
  prefill(first);
  t.same(takenWithin(0), [39, 0, 0]);
  t.equal(others[0]?.cachedTokens, 39);
  t.same(takenWithin(Infinity), [39, 39, 39]);
});

void t.test('a prompt awaits another one of its space that lacks enough positions of both', async (t) => {
  const { slotManager } = over(4);
  const [ahead, behind] = [sequence('ahead', prompt(40)), sequence('behind', prompt(40))];
  start(slotManager, ahead, behind);
  t.ok(slotManager.awaits(behind, [ahead]));
  behind.slot?.reach(0, 23);
  t.ok(slotManager.awaits(behind, [ahead]));
  behind.slot?.reach(0, 24);
  t.notOk(slotManager.awaits(behind, [ahead]), 'fewer than 16 positions');
  t.notOk(slotManager.awaits(sequence('other space', prompt(40), { prefixSpace: 'B' }), [ahead]));
  t.notOk(slotManager.awaits(sequence('scored', prompt(40), { promptLogprobs: 0 }), [ahead]));
  t.notOk(slotManager.awaits(sequence('other text', prompt(40, 1)), [ahead]));
});

void t.test(
  'a later choice counts on the prompt of the first, in the stages that it needs, until it ends',
  async (t) => {
    const { slotManager } = over(2);
    const [first, later] = [sequence('first', prompt(40), {}, SHALLOW), sequence('later', prompt(40))];
    const choice = sequence('choice', first.request.prompt);
    start(slotManager, first);
    first.slot?.reach(0, 20);
    for (const each of [first, later, choice]) slotManager.lead(each);
    const expected = (each: Sequence): number[] => [0, 1].map((unit) => each.expectedFrontiers[unit] ?? 0);
    t.same(
      [expected(later), expected(choice)],
      [
        [0, 0],
        [39, 0],
      ],
    );
    slotManager.waiting.push(choice);
    prefill(first);
    slotManager.finish(first);
    t.same(expected(choice), [0, 0]);
    slotManager.shareAll(Infinity);
    t.equal(choice.frontier(0), 37, 'the slot of the first one holds its prompt');
    if (choice.prefix) choice.prefix.slot.tokens = [];
    t.equal(choice.frontier(0), 0);
  },
);

void t.test('without prefix reuse no prompt uses another one, and a slot that ends is empty', async (t) => {
  const { slotManager, table } = over(3, { prefixReuse: false });
  store(slotManager, 'stored', prompt(40));
  t.ok(table.slots.every(({ length }) => length === 0));
  const a = sequence('a', prompt(40));
  const b = sequence('b', a.request.prompt);
  start(slotManager, a);
  prefill(a);
  start(slotManager, b);
  for (const each of [a, b]) slotManager.lead(each);
  t.match(b, { cachedTokens: 0, leader: null, slot: { length: 0 } });
  t.notOk(slotManager.share(b));
});

void t.test('the queue holds its limit beside the free slots, without those that were preempted', async (t) => {
  const { slotManager } = over(2, { maxQueue: 1 });
  const isFullWith = (waiting: number, elsewhere = 0): boolean => {
    while (slotManager.waiting.length < waiting) slotManager.waiting.push(sequence('waits', prompt(4)));
    return slotManager.isFull(elsewhere);
  };
  t.same([isFullWith(2), isFullWith(2, 1), isFullWith(3)], [false, true, true]);
  startWaiting(slotManager, 0);
  t.same([isFullWith(0), isFullWith(1)], [true, true]);
  for (const each of slotManager.waiting) each.preemptions = 1;
  t.notOk(slotManager.isFull());
});

void t.test('a tenant pays for the tokens that its sequences got, not for those that were expected', async (t) => {
  const { slotManager } = over(2, { maxRunning: 1 });
  const of = (id: string, tenant: string, length: number): Sequence => sequence(id, prompt(length), { tenant });
  // A token of an answer counts twice: 24 and 22.
  for (const [each, answer] of [
    [of('short prompt', 'a', 4), 10],
    [of('long prompt', 'b', 20), 1],
  ] as const) {
    start(slotManager, each);
    each.tokens.push(...prompt(answer, 3));
    slotManager.finish(each);
  }
  const blocker = of('runs', 'c', 4);
  start(slotManager, blocker);
  for (const each of [of('a', 'a', 4), of('b', 'b', 5)]) slotManager.waiting.push(each);
  startWaiting(slotManager, 1);
  t.same(ids(slotManager.waiting), ['b', 'a']);
});

void t.test('sequences of different prefix spaces share neither stored nor coming prefixes', async (t) => {
  const { slotManager, table } = over(4);
  const inSpace = (id: string, prefixSpace: string): Sequence => sequence(id, prompt(40), { prefixSpace });
  const run = (each: Sequence): Sequence => {
    start(slotManager, each);
    prefill(each);
    return each;
  };
  slotManager.finish(run(inSpace('stored', 'A')));
  t.same(
    ['B', undefined, 'A'].map((space) => foundIn(slotManager, prompt(40), space)),
    [0, 0, 39],
  );
  const other = inSpace('other', 'B');
  start(slotManager, other);
  t.match(other, { cachedTokens: 0, slot: { length: 0 } });
  t.notOk(slotManager.share(other), 'no copy from the stored slot of the other space');
  prefill(other);
  t.equal(run(inSpace('late', 'A')).cachedTokens, 39, 'its own space keeps the stored prefix');
  for (const slot of table.slots) table.drop(slot);
  t.ok(
    table.slots.every(({ space }) => space === undefined),
    'an empty slot has no space',
  );
});

/** A sequence with an admission of a class. */
function admitted(id: string, serviceClass: ServiceClass, kind: number, arrivedAt = 0, length = 4): Sequence {
  const each = sequence(id, prompt(length, kind), { arrivedAt });
  each.serviceClass = serviceClass;
  each.expectedTokens = 1;
  return each;
}
const ids = (sequences: readonly Sequence[]): string[] => sequences.map(({ id }) => id);

void t.test('a promised sequence takes the slot of the newest one that may yield, and its prefix stays', async (t) => {
  const { slotManager, table } = over(4, { maxRunning: 2 });
  const [old, young] = [admitted('old', 'none', 1, 5), admitted('young', 'none', 2, 9, 40)];
  start(slotManager, old, young);
  prefill(young);
  const promised = admitted('promised', 'guaranteed', 3);
  slotManager.waiting.push(promised);
  startWaiting(slotManager, 1);
  t.same(ids(slotManager.running), ['old', 'promised']);
  t.same(ids(slotManager.waiting), ['young']);
  t.match(young, { slot: null, preemptions: 1 });
  slotManager.finish(promised);
  startWaiting(slotManager, 2);
  t.same(ids(slotManager.running), ['old', 'young']);
  t.equal(young.slot?.length, 39, 'its positions are still there');
  t.equal(table.slots.filter(({ live }) => live).length, 2);
});

void t.test('sequences yield memory as well, and no more than a promised one needs', async (t) => {
  const { slotManager } = over(4, { kvBytes: 2 * 5 * 3 });
  start(slotManager, ...[1, 2, 3].map((kind) => admitted(`r${kind}`, 'none', kind, kind)));
  t.equal(slotManager.running.length, 3);
  slotManager.waiting.push(admitted('promised', 'guaranteed', 4));
  startWaiting(slotManager, 1);
  t.same(ids(slotManager.running), ['r1', 'r2', 'promised']);
});

void t.test('without memory, the newest sequence is preempted, one with a promise last', async (t) => {
  const { slotManager } = over(3, { kvBytes: 2 * 5 * 3 });
  const [first, second, last] = [
    admitted('promised', 'guaranteed', 1, 1),
    admitted('other', 'best_effort', 2, 2),
    admitted('promised too', 'guaranteed', 3, 3),
  ];
  start(slotManager, first, second, last);
  first.tokens.push(7);
  slotManager.makeRoom(1);
  t.same(ids(slotManager.running), ['promised', 'promised too']);
  t.match(slotManager.waiting, [{ id: 'other', preemptions: 1, slot: null }]);
  first.tokens.push(...prompt(9));
  slotManager.makeRoom(1);
  t.same(ids(slotManager.running), ['promised'], 'of promised ones the newest');
});
