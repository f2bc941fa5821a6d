import t from 'tap';
import { kernelChoice } from '../../src/engine/execution/kernels.js';
import { findPrefix } from '../../src/engine/scheduler/kv/prefix.js';
import { randomStream } from '../../src/engine/draws.js';
import { Slot } from '../../src/engine/scheduler/kv/units.js';

void t.test('prefix: longest exact match, of whole pages', async (t) => {
  const stored = new Slot(0, 1);
  stored.tokens = Array.from({ length: 40 }, (_, i) => i);
  stored.reach(0, 40);
  const tokens = [...stored.tokens, 1, 2, 3];
  const found = (of: readonly number[], page = 1) => findPrefix(of, [stored], [0], null, page)?.length;
  t.equal(found(tokens), 40);
  t.equal(found(tokens.slice(0, 42)), 39, 'never a single position to prefill');
  t.equal(found(tokens.slice(0, 41)), 40, 'with nothing to prefill, all but the last');
  t.equal(found(tokens.slice(0, 18)), 17);
  t.equal(found(tokens.slice(0, 16)), undefined, 'fewer than 16 can be reused');
  t.equal(found([5, ...tokens]), undefined);
  const first = (length: number): number[] => [...tokens.slice(0, length), 1, 2, 3];
  t.strictSame([found(first(21)), found(first(21), 16)], [21, 16]);
  t.strictSame([found(tokens), found(tokens, 16)], [40, 32]);
});

void t.test('prefix: the match that saves most at an exit, beyond the own slot', async (t) => {
  const tokens = Array.from({ length: 60 }, (_, i) => i);
  const [shallow, deep] = [new Slot(0, 3), new Slot(1, 3)];
  shallow.tokens = deep.tokens = tokens;
  shallow.reach(0, 50);
  deep.reach(0, 40);
  deep.reach(1, 40);
  t.match(findPrefix(tokens, [shallow, deep], [0]), { slot: { index: 0 }, length: 50 });
  t.match(findPrefix(tokens, [shallow, deep], [0, 1]), { slot: { index: 1 }, length: 40 });
  t.match(findPrefix(tokens, [shallow, deep], [0, 1], deep), null, '10 further positions are too few');
  t.match(findPrefix(tokens, [shallow, deep], [0, 1], shallow), { slot: { index: 1 }, length: 40 });
  shallow.reach(0, 60);
  t.match(findPrefix(tokens, [shallow], [0, 1]), { length: 57 }, 'the deeper units have positions to process');
});

void t.test('kernel: the cheapest for these rows', async (t) => {
  const cost = (kernel: string, one: number, many: number) => {
    const points = (first: number, last: number) =>
      [first, last].map((rows) => ({ rows, context: 0, ms: rows === first ? one : many }));
    return { unit: 's', kernel, decode: points(1, 16), prefill: points(16, 128) };
  };
  const choose = kernelChoice(['s'], ['int4', 'w8a8'], { units: [cost('int4', 2, 16), cost('w8a8', 4, 12)] });
  t.equal(choose(0, 'decode', 1, 100), 'int4');
  t.equal(choose(0, 'decode', 16, 100), 'w8a8');
  t.equal(choose(0, 'prefill', 128, 0), 'w8a8');
});

void t.test('random: same seed, same stream, uniform', async (t) => {
  const [a, b, c] = [randomStream(1), randomStream(1), randomStream(2)];
  const draws = Array.from({ length: 10_000 }, () => a());
  t.strictSame(
    draws.slice(0, 5),
    Array.from({ length: 5 }, () => b()),
  );
  t.not(draws[0], c());
  t.not(draws[0], randomStream(1 + 2 ** 32)(), 'seeds have more than 32 bits');
  t.not(randomStream(null)(), randomStream(null)(), 'without a seed, a new stream each time');
  const mean = draws.reduce((sum, draw) => sum + draw, 0) / draws.length;
  t.ok(Math.abs(mean - 0.5) < 0.015, `mean ${mean}`);
});
