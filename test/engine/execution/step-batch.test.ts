/** A step's batch: frontiers move behind it alone, and its parts give the bits that they give one after another. */
import t from 'tap';
import { chunksOnly, frontierBehind } from '../../../src/engine/execution/step-batch.js';
import { advance, advanceTo, decodeRows, distance, logitsAt, makeExecutor, openSlot } from '../helper.js';
import { blocksModel, loopedModel, tinyModel } from '../tiny-model.js';
import { StepClock } from '../../../src/engine/execution/step-clock.js';
import type { Slot } from '../../../src/engine/scheduler/kv/units.js';

const executor = await makeExecutor(t, { modelDir: await tinyModel(t, 'float') });
const deepest = executor.units.exits.length - 1;
const tokens = (length: number, seed: number): number[] =>
  Array.from({ length }, (_, i) => 3 + ((i * 37 + seed * 101) % 190));

t.afterEach(() => {
  executor.forget(0);
});

for (const [name, modelDir] of Object.entries({
  stages: await tinyModel(t, 'float'),
  'exit blocks': await blocksModel(t, 'w8a8'),
  loops: await loopedModel(t),
}))
  void t.test(`${name}: deepening later, a copied prefix and neighbours give the bits of a deep prefill`, async (t) => {
    const executor = await makeExecutor(t, { modelDir });
    const { table, units } = executor;
    const prompt = tokens(60, 1).map((id) => id % executor.model.manifest.architecture.vocab);
    const last = prompt.length - 1;
    const deepest = units.exits.length - 1;
    const behind = (slot: Slot, exit: number): Float32Array => {
      advanceTo(executor, slot, exit, last);
      const logits = logitsAt(executor, slot, exit);
      slot.truncate(last);
      return logits;
    };
    const whole = openSlot(executor, prompt);
    advanceTo(executor, whole, deepest, last);
    const expected = units.exits.map((_, exit) => behind(whole, exit));
    const none = new Float32Array(0);

    const staged = openSlot(executor, prompt);
    for (const exit of [0, deepest - 1, 1, deepest])
      t.equal(distance(behind(staged, exit), expected[exit] ?? none), 0, `exit ${exit}`);

    const source = openSlot(executor, prompt);
    advanceTo(executor, source, 0, 50);
    advance(executor, source, deepest, 20);
    const copy = openSlot(executor, prompt);
    table.copyPrefix(source, copy, 30);
    t.strictSame([copy.frontier(0), copy.least(executor.exit(deepest).needed)], [30, 20]);
    t.equal(distance(behind(copy, deepest), expected[deepest] ?? none), 0, 'a copy');

    const rows = [staged, whole].map((slot, exit) => ({ slot, exit: executor.exit(exit) }));
    decodeRows(executor, [...rows, { slot: copy, exit: executor.exit(deepest) }]);
    t.equal(distance(executor.head.fullLogits(2), expected[deepest] ?? none), 0, 'beside neighbours of other depths');
  });

void t.test('a chunk, its row, a catch-up and other rows in one batch equal runs one after another', async (t) => {
  const lengths = [60, 3, 40, 25];
  const open = () => {
    const slots = lengths.map((length, seed) => openSlot(executor, tokens(length, seed)));
    const [a, b, c, d] = slots as [(typeof slots)[0], (typeof slots)[0], (typeof slots)[0], (typeof slots)[0]];
    advanceTo(executor, a, deepest, 30);
    advanceTo(executor, b, 0, 2);
    advanceTo(executor, c, 0, 39);
    advanceTo(executor, d, deepest, 10);
    return [a, b, c, d] as const;
  };
  const [a, b, c, d] = open();
  advance(executor, a, deepest, 59);
  advance(executor, c, deepest, 39);
  advance(executor, d, deepest, 20);
  const expected = [
    [a, deepest],
    [b, 0],
    [c, deepest],
  ].map(([slot, exit]) => logitsAt(executor, slot as typeof a, exit as number));
  const after = [a, b, c, d].map(({ frontiers }) => [...frontiers]);
  executor.forget(0);

  const [a2, b2, c2, d2] = open();
  const before = [a2, b2, c2, d2].map(({ frontiers }) => [...frontiers]);
  const now = () => [a2, b2, c2, d2].map(({ frontiers }) => [...frontiers]);
  const chunks = [
    { slot: a2, exit: executor.exit(deepest), end: 59 },
    { slot: c2, exit: executor.exit(deepest), end: 39 },
    { slot: d2, exit: executor.exit(deepest), end: 20, read: () => t.strictSame(now(), before) },
  ];
  const rows = [a2, b2, c2].map((slot, i) => ({ slot, exit: executor.exit(i === 1 ? 0 : deepest) }));
  let chosen = 0;
  executor.run({ chunks, rows, draft: null }, (head) => {
    chosen++;
    t.strictSame(now(), before, 'no frontier moves before the batch has run');
    for (const [row, logits] of expected.entries()) t.equal(distance(head.fullLogits(row), logits), 0, `row ${row}`);
  });
  t.equal(chosen, 1);
  t.strictSame(now(), after);
});

void t.test('the head has the logits behind each token of a draft', async (t) => {
  const draft = [7, 9, 11];
  const slot = openSlot(executor, tokens(20, 1));
  advanceTo(executor, slot, deepest, 19);
  const found: Float32Array[] = [];
  executor.run({ chunks: [], rows: [{ slot, exit: executor.exit(deepest) }], draft: { tokens: draft } }, (head) => {
    for (let row = 0; row <= draft.length; row++) found.push(head.fullLogits(row).slice());
  });
  t.equal(slot.tokens.length, 20, 'the sequence keeps its tokens');
  t.equal(slot.length, 23);
  slot.truncate(19);
  const whole = openSlot(executor, [...slot.tokens, ...draft]);
  advanceTo(executor, whole, deepest, 19);
  const states = advance(executor, whole, deepest, 23);
  states?.toHead(19, draft.length + 1);
  for (const [row, logits] of found.entries())
    t.equal(distance(executor.head.fullLogits(row), logits), 0, `row ${row}`);
});

void t.test('rows begin behind the chunk of their slot; an empty batch runs nothing', async (t) => {
  const slot = openSlot(executor, tokens(20, 1));
  const chunk = { slot, exit: executor.exit(0), end: 19 };
  const frontier = frontierBehind([chunk]);
  t.equal(frontier(slot, 0), 19);
  t.equal(frontier(slot, deepest), 0, 'a unit that the exit does not need');
  t.equal(frontier(openSlot(executor, []), 0), 0);
  executor.run(chunksOnly());
  decodeRows(executor, []);
  t.equal(slot.least(executor.exit(deepest).needed), 0);
});

void t.test('a chunk beyond the tokens or the buffers is an error, and moves nothing', async (t) => {
  const slot = openSlot(executor, tokens(20, 1));
  t.throws(() => advance(executor, slot, deepest, 21), { message: /positions 0 to 21 exceed a chunk or the tokens/ });
  const { maxChunk } = executor.model.limits;
  const long = openSlot(executor, tokens(maxChunk + 2, 1));
  t.throws(() => advance(executor, long, 0, maxChunk + 1), { message: /exceed a chunk/ });
  t.equal(slot.length + long.length, 0);
});

const NONE = { planning: 0, memory: 0, prefill: 0, decode: 0, head: 0, sampling: 0, messages: 0 };

void t.test('each part has its own time, and together they are the cycle', (t) => {
  let now = 0;
  const clock = new StepClock(() => now);
  now = 100;
  clock.enter('planning');
  now = 103;
  clock.enter('decode');
  now = 110;
  t.equal(
    clock.run('head', () => (now = 115)),
    115,
  );
  now = 116;
  t.same(clock.take(), { ...NONE, planning: 3, decode: 8, head: 5 }, 'the time until the first part belongs to none');
  clock.enter('sampling');
  now = 118;
  clock.enter('messages');
  now = 121;
  clock.enter('planning', 120);
  t.same(clock.take(125), { ...NONE, sampling: 2, messages: 2, planning: 5 }, 'times that the caller has read');
  t.end();
});

void t.test('a failed part ends, and idle time belongs to no part', (t) => {
  let now = 0;
  const clock = new StepClock(() => now);
  clock.enter('prefill');
  t.throws(() =>
    clock.run('head', () => {
      now = 4;
      throw new Error('no memory');
    }),
  );
  now = 5;
  t.same(clock.take(), { ...NONE, head: 4, prefill: 1 });
  now = 6;
  clock.rest();
  now = 1000;
  clock.enter('planning');
  now = 1002;
  t.same(clock.take(), { ...NONE, planning: 2 });
  t.end();
});
